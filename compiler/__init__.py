"""ONNX model in, training bundle out."""
