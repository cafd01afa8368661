"""Run a recorded iteration again, and measure how far the results are from the recorded ones."""
