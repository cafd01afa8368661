"""Found by the verifiers library by their names alone, so this folder has to be on the path."""
