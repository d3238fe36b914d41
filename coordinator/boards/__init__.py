"""Replies to boards: leases, refusals, proofs of finality."""
