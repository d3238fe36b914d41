"""Boards that falsify their updates: who does when, and what they send."""
