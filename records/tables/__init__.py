"""Whole tables: what is learned from their columns, and rows as records."""
