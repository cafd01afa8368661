"""Feedback tables beside other ways to keep an expert's distributions."""
