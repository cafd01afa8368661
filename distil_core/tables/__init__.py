"""Typed Parquet tables: what each column is, how they are written, and how they are refused."""
