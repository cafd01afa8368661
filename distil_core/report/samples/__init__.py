"""The viewer of samples: one page with every rollout and held-out response of an iteration."""

from distil_core.report.samples.write import write_samples

__all__ = ["write_samples"]
