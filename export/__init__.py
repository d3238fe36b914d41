"""A trained version as an ordinary ONNX file, with its proof and what it is worth."""
