"""Measurements too long for the tests; each module says its command and what it answers."""
