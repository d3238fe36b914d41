"""An empty module in the place of one that a library imports and does not need here.

`paho.mqtt.client` imports `urllib.request` to look for proxies, which it does only if
PySocks is installed. With that come an HTTP client and the whole of `email`: 1.2 MiB in
the memory of every idle board.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType


@contextmanager
def stand_in(name: str, unless: str) -> Iterator[None]:
    """While it is open, `import name` finds an empty module.

    Nothing is changed if the module was imported before, and whoever imports it
    afterwards gets the real one.

    Args:
      name: Of the module.
      unless: A module that makes use of it; if it is installed, nothing is changed.
    """
    if name in sys.modules or find_spec(unless) is not None:
        yield
        return
    sys.modules[name] = ModuleType(name)
    try:
        yield
    finally:
        del sys.modules[name]
