"""Texts that verifiers are tried with: what a model that gave up, or tries its luck, may write."""

JUNK = (
    "nan", "NaN", "-nan", "nan+nani", "nan + nanj", "(nan,nan)", "[nan]", "inf", "-inf", "infinity",
    "inf+infj", "0", "-0", "+0", "0.0", "0e0", "0j", "0+0i", "0/1", "1", "-1", "1e400", "-1e400",
    "1e99999999", "1e-99999999", "1e1000000", "9" * 5000, "None", "null", "True", "False", "[]",
    "{}", "()", "''", '""', "[[]]", "[" * 5000, "x", "a", ",", ".", "-", "...", "\x00", "\u2205",
    "\ud800", "\u0660", "\u2460", "no answer", "error", "?",
)  # fmt: skip
"""Some of it may be right by chance."""

NO_ANSWERS = ("", "nan", "-inf", "no answer", "error", "?", "[" * 5000, "\x00", "\ud800", "...")
"""Texts that answer nothing, so that none of them may be right unless it is the reference."""

LONG = "word " * 20_000
