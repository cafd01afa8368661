"""The campaign's report: one HTML file that contains all it needs."""
