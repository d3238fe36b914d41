"""Rewrites before differentiation: lowering, folding, fusion, the batch axis."""
