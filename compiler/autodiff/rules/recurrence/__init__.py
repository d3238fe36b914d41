"""Recurrent layers, unrolled through time."""
