"""The chain: consensus, state machine, mempool and verification."""
