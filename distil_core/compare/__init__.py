"""Campaigns beside each other: several seeds of one, or campaigns compared with each other."""
