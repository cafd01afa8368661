"""Policies for other programs: a plain Hugging Face folder with its evidence, and the model hub."""
