"""Catching up with the chain: block sync, and state sync from a snapshot."""
