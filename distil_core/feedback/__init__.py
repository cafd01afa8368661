"""Composing the expert's context from a problem, an attempt and its feedback."""
