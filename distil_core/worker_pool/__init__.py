"""Work in processes that may hang or die: each with a time limit, watched and replaced."""

from distil_core.worker_pool.pool import WorkerPool
from distil_core.worker_pool.serving import WorkerFailure, described, serve
from distil_core.worker_pool.watch import BrokenWorkWatch

__all__ = ["BrokenWorkWatch", "WorkerFailure", "WorkerPool", "described", "serve"]
