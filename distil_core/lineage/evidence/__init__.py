"""What there is to record of an iteration, whoever records it."""
