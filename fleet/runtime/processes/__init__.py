"""Real processes of a fleet: homes, supervisor, status and receipts on disk."""
