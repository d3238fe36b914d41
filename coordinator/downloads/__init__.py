"""Data requested from other coordinators, and long answers in pieces."""
