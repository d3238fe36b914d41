"""A board joins a fleet, by a token or by two files."""
