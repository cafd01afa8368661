"""A policy as a model of inspect_ai, for tasks that others wrote."""
