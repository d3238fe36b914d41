"""Convolution, transposed convolution and pooling, by im2col patches."""
