"""Opens the files that records come from."""
