"""Break a real campaign in every way thought of, and see that a rerun mends it.

`python -m benchmarks.faults [--seed 1] [--faults 60]`: see `__main__`. Each module here that is
named in `kinds` brings some kinds of faults; `scene` prepares a workspace and judges what is left.
"""
