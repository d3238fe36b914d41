"""Choice of the tensors to train: metadata, ties, constants, selection."""
