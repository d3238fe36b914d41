"""How updates become a step: one file a strategy, one registry."""
