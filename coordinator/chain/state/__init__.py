"""State of the chain: tables of records by subject, and the overlay of a block."""
