"""Leases: the table of boards in flight, and client selection."""
