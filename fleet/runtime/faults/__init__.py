"""Fault injection into coordinators: kills, partitions, delays, Byzantine votes."""
