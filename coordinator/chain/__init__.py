"""The replicated chain: consensus, gossip, execution, storage and verification."""
