"""Checks before a signature, and proofs that others broke the rules of signing."""
