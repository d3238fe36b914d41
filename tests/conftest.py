import os

# Some tests compare with ONNX Runtime as it comes, which would write into HOME.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
