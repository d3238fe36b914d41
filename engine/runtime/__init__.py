"""Runtime of the engine: the only package that imports ONNX Runtime."""
