"""Gradient rules: a family of operators a file; `rule_table` has one line for each."""
