"""A finished update on its way: the outbox, and the report of one that was lost."""
