"""What a campaign would do, tried before anything is frozen: a handful of problems through
everything, and whether the verifier judges the problems as it should. Nothing is recorded."""
