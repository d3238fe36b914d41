"""What all tests share."""

import os

from hypothesis import settings

# Some tests compare with ONNX Runtime as it comes, which would write into HOME.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# The default is 200 ms for an example, which a busy machine exceeds at any time.
settings.register_profile("any-machine", deadline=None)
settings.load_profile("any-machine")
