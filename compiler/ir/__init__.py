"""Intermediate representation: the network, and the builder of ONNX graphs."""
