"""What a user writes to offer a campaign to verifiers."""

from distil_core.outside_evaluation.verifiers_environment import DistilEnv, DistilTaskset

__all__ = ["DistilEnv", "DistilTaskset"]
