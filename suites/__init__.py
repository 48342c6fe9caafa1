"""Suites: what is compared on which data, the plan of a grid, and its execution."""
