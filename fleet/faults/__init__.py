"""Timelines of what goes wrong in a fleet, read and put in order."""
