"""Interface of the chain store, its twin in memory, stored rows, and snapshots."""
