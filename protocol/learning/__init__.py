"""Task, local optimiser and encoding of update vectors."""
