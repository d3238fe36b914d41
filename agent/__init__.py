"""The board: accepts proven models, trains in private, sends signed updates."""
