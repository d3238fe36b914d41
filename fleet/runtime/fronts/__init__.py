"""Fronts that are measured and trained on this machine, from public sources."""
