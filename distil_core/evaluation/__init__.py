"""Pass@N and its intervals, on held-out problems without feedback."""
