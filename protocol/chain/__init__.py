"""Structures of the chain, and the light client that verifies them."""
