"""Frozen fronts: layers that turn a picture into features, made from public sources."""
