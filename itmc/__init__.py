"""ITMC (iterative transfer model compression) and the core that every method of the benchmark shares."""

__version__ = "0.1.0"
