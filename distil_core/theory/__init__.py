"""docs/method.md#facts, verified exactly: `python -m distil_core.theory` prints every table."""
