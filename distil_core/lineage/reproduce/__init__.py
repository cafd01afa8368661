"""Running a recorded iteration again, and how far the results are from it."""
