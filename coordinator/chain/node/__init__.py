"""The pure node of the chain: entry, one height, incoming messages."""
