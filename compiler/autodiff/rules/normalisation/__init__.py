"""Gradient rules of layers that normalise: batch, layer, group and instance."""
