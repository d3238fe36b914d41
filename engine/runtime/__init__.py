"""What touches ONNX Runtime; nothing else in the product imports it."""
