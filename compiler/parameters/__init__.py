"""Which tensors of a model are weights: metadata, ties, constants, selection."""
