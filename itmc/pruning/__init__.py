"""Structured channel pruning: which channels matter, how many go when, and how they are removed."""

from itmc.pruning.once import Pruned, prune

__all__ = ["Pruned", "prune"]
