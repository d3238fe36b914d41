"""Tracing on disk: lineages, vectors and copies of a home."""
