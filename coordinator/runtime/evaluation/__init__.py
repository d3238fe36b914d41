"""Evaluation of versions on held-out data, in a sandboxed process."""
