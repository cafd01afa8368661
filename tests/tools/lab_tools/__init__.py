"""Tools for tests, named by their dotted paths."""
