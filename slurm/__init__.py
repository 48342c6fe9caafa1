"""Fans a grid over a SLURM cluster: ``submit``, ``status``, ``retry``, and the worker they run."""
