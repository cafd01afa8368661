"""Environments in processes of their own: each may hang, die or leave things behind."""

from distil_core.environments.pool.jobs import StepJob, StepOutcome
from distil_core.environments.pool.run import EnvironmentPool

__all__ = ["EnvironmentPool", "StepJob", "StepOutcome"]
