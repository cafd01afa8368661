"""Rollouts: what the policy samples, one response or turn after turn in an environment."""
