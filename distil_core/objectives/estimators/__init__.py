"""What objectives are built from: divergences, future credit, matched distributions, reductions.

Evaluation and theory compute with the same functions, and so may an objective of your own. The
modules here are no objectives themselves.
"""
