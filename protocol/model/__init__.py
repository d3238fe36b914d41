"""Training bundle of a model, and the layout of its parameters."""
