"""ONNX model in, training bundle out."""

from compiler.bundle import Bundle, compile_model, write_bundle
from compiler.errors import CompileError

__all__ = ["Bundle", "CompileError", "compile_model", "write_bundle"]
