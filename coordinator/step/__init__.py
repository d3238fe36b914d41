"""Vocabulary of the core: state, events, effects, and one step under way."""
