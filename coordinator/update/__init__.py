"""Checks of one update: every admission check in order, and the norm bound."""
