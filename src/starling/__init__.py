"""Boards train one model together; their data stays on them.

The names below are stable. Each is loaded on first use, so that `import starling` costs
a board no memory for numpy, ONNX or ONNX Runtime:

    compile_model, write_bundle   an ONNX model to a training bundle, and to a folder
    open_trainer                  a bundle's graphs as functions of the local data
    simulate                      a fleet that learns from arrays in memory
    FleetPlan, run_virtual        a whole fleet in this process
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starling.agent import open_trainer
    from starling.compiler import compile_model, write_bundle
    from starling.fleet import FleetPlan, run_virtual, simulate

__version__ = "0.1.0"

__all__ = [
    "FleetPlan",
    "__version__",
    "compile_model",
    "open_trainer",
    "run_virtual",
    "simulate",
    "write_bundle",
]

# Package and extra of each name. A new one needs a line here, in `__all__` and above.
_PACKAGES = {
    "FleetPlan": ("starling.fleet", "fleet"),
    "compile_model": ("starling.compiler", "compiler"),
    "open_trainer": ("starling.agent", "agent"),
    "run_virtual": ("starling.fleet", "fleet"),
    "simulate": ("starling.fleet", "fleet"),
    "write_bundle": ("starling.compiler", "compiler"),
}


if not TYPE_CHECKING:  # with it, every name would be an object to a type checker

    def __getattr__(name: str) -> object:
        """Loads a stable name on first use.

        Raises:
          ModuleNotFoundError: If its extra is not installed; the message names it.
        """
        if name not in _PACKAGES:
            raise AttributeError(f"module 'starling' has no attribute {name!r}")
        package, extra = _PACKAGES[name]
        try:
            found: object = getattr(importlib.import_module(package), name)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"starling.{name} needs the package {error.name!r}: install Starling "
                f"with its extra [{extra}]",
                name=error.name,
            ) from error
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    """Names of this module, loaded or not."""
    return sorted({*globals(), *__all__})
