"""The state of the chain: keys, records, queries, and the overlay a block writes to."""
