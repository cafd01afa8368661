"""The facts to record about an iteration, independent of where they are recorded."""
