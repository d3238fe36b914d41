"""All public models of the scoreboard, by the module that lists them."""

from collections.abc import Iterator, Sequence
from importlib import import_module

from benchmarks.models.public_model import PublicModel

_ROOT = "benchmarks.models.architectures"
MODULES = (
    "mlperf_tiny",
    "time_series",
    "signals",
    "vision",
    "language",
    "tables",
    "keras_examples",
    "sklearn_pipelines",
    "idioms_functions",
    "idioms_layers",
)


def catalogue(modules: Sequence[str] = ()) -> Iterator[tuple[str, PublicModel]]:
    """Module and model, in the order of the table; of all modules if none is named.

    Listing a module loads its toolkit.
    """
    for name in modules or MODULES:
        module = f"{_ROOT}.{name}"
        for model in import_module(module).MODELS:
            yield module, model
