"""ONNX model in, training bundle out."""

from starling.compiler.bundle.compile_pipeline import (
    ORIGIN,
    Bundle,
    compile_model,
    started_from,
    write_bundle,
)
from starling.compiler.errors import CompileError

__all__ = [
    "ORIGIN",
    "Bundle",
    "CompileError",
    "compile_model",
    "started_from",
    "write_bundle",
]
