"""Data availability: vectors and bundles needed before a block names them."""
