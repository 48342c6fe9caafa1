"""``python -m suites.bench``: how fast training steps and pruned networks are, in turns."""
