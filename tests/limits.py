"""How long a test waits for a process."""

HANGING = 3600
"""Seconds after which a process is taken to hang, far more than the slowest machine needs."""
