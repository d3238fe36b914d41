"""Gossip of consensus: statuses, vote repair, certificates, fork proofs."""
