"""Aggregation of updates into a step: one file a strategy, one registry."""
