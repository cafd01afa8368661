"""Training a policy on feedback tables. Blind to where the feedback came from."""
