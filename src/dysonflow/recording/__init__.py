"""Weights kept by a training loop that is not ours: a recorder, and its callbacks for trainers."""
