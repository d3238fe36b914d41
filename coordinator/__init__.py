"""Admits updates, orders them in the chain and recomputes the model."""
