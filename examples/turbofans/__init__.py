"""Remaining life of turbofans: airlines that keep their engines' records."""
