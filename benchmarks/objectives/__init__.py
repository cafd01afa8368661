"""The study of objectives: the same rollouts, steps and expert queries under each of them.

`python -m benchmarks.objectives` runs what is missing, `--report` writes the tables and figures of
docs/objectives.md from the results, `--quick` runs all of it in miniature.
"""
