"""Gossip of consensus: statuses, vote repair, certificates, the halt at a fork."""
