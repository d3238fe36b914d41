"""Which updates may count: one file a rule, one registry."""
