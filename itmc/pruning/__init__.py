"""Structured channel pruning: which channels matter, how many go when, and how they are removed."""
