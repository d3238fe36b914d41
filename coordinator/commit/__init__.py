"""Between coordinator and chain: transactions and evidence in, committed blocks out."""
