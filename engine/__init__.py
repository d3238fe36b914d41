"""The one door to ONNX Runtime: reads strictly, checks, runs only that."""
