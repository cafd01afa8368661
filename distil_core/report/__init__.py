"""The campaign's report: one HTML file that needs nothing else to be read."""
