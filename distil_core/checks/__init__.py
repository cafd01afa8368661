"""What each table is put to: named checks, kept beside the table, with limits that warn or stop."""
