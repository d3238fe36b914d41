"""Examples that one can run: each folder's README has its commands."""
