"""ITMC (iterative transfer model compression), and the core that all methods share."""

__version__ = "0.1.0"
