"""A bank's table: who will not pay back, learned by branches that share no rows."""
