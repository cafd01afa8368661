"""Typed Parquet tables: what each column means, how they are written, and when they are refused."""
