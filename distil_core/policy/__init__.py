"""The policy: tokenizer, model, and log-probabilities at the states it visited."""
