"""Whether there is a broker to test with."""

import os

import pytest

from starling.broker.runtime.mosquitto_process import find_mosquitto
from starling.protocol.errors import ConfigError


def require_mosquitto() -> None:
    """Without one a test fails in CI and is skipped elsewhere."""
    try:
        find_mosquitto()
    except ConfigError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))
