"""Files of an agent's home: spool, blobs, proofs, trusted state."""
