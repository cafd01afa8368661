"""Learning curves of the presets, each run in a scratch workspace through `make run`'s command.

`python -m benchmarks.domains` runs what is missing, `--report` writes docs/domains.md from it.
"""
