"""Execution: the state machine over a block, and building and validating blocks."""
