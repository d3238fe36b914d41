"""Boards train one model together; their data stays on them."""
