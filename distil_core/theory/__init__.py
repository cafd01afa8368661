"""METHOD section 6, verified exactly: `python -m distil_core.theory` prints every table."""
