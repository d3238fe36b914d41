"""Metadata that exporters write about tensors: parameters, buffers, derived values.

PyTorch's newer exporter writes the signature of the exported program, and beside each
tensor that it computed in advance the names of what it was computed from. No other
exporter does; `requires_grad=False` is in no file.

Source: torch.onnx 2.5 to 2.13 (`pkg.torch.export...`), onnxscript's constant folding
(`folded_from`).
"""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass

import onnx

_SIGNATURE = "pkg.torch.export.ExportedProgram.graph_signature"
_KIND = "pkg.torch.export.graph_signature.InputSpec.kind"
_FOLDED = "pkg.onnxscript.optimizer.folded_from"
_SCOPES = "pkg.torch.onnx.name_scopes"
PARAMETER = "PARAMETER"
_ENTRY = re.compile(r"(PARAMETER|BUFFER|CONSTANT_TENSOR)[^\n]*?target='([^']*)'")
"""One line of a signature, as text or as the repr of older releases."""
_MOVER_NAMES = (
    "cat chunk clone detach flatten getitem mT numpy permute reshape select "
    "slice split squeeze stack t transpose unbind unsqueeze val view zeros"
)
_MOVERS = frozenset(_MOVER_NAMES.split())


@dataclass(frozen=True)
class ExporterMetadata:
    """Metadata that the exporter wrote.

    Attributes:
      kinds: Name of a tensor of the program to PARAMETER, BUFFER or CONSTANT_TENSOR.
      sources: Name of a tensor that was computed in advance to all names that it was
        computed from.
    """

    kinds: Mapping[str, str]
    sources: Mapping[str, tuple[str, ...]]

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the program's parameters, in its order."""
        return tuple([name for name, kind in self.kinds.items() if kind == PARAMETER])

    def parents(self, name: str) -> tuple[str, ...]:
        """The parameters that a tensor is or was made of."""
        if self.kinds.get(name) == PARAMETER:
            return (name,)
        return tuple(
            [
                source
                for source in self.sources.get(name, ())
                if self.kinds.get(source) == PARAMETER
            ]
        )

    def moved(self, name: str) -> bool:
        """True if a tensor holds the values of its parents, each once.

        The exporter names an intermediate value after the function that made it, or
        numbers it where it wrote the function itself (only layouts of linear and
        recurrent layers).
        """
        steps = [name, *self.sources.get(name, ())]
        return all(step in self.kinds or _stem(step) in _MOVERS for step in steps)


def origin(proto: onnx.ModelProto) -> ExporterMetadata | None:
    """Metadata that a model has about its tensors; None without any."""
    graph = proto.graph
    text = next((p.value for p in graph.metadata_props if p.key == _SIGNATURE), "")
    kinds = {name: kind for kind, name in _ENTRY.findall(text)}
    sources = {}
    for info in graph.value_info:
        for entry in info.metadata_props:
            if entry.key == _KIND:
                kinds.setdefault(info.name, entry.value)
            elif entry.key == _FOLDED:
                sources[info.name] = tuple(_names(entry.value))
    # Without a parameter the signature says nothing of weights.
    if PARAMETER not in kinds.values():
        return None
    return ExporterMetadata(kinds, sources)


def module(node: onnx.NodeProto) -> str | None:
    """The path of the module that a node came from; None if nothing says it."""
    text = next((p.value for p in node.metadata_props if p.key == _SCOPES), "")
    scopes = _names(text)
    return str(scopes[-2]) if len(scopes) > 1 else None


def _names(text: str) -> list[str]:
    try:
        found = ast.literal_eval(text) if text else []
    # Text of a stranger's file: literal_eval runs no code, but deep nesting exhausts
    # it.
    except (MemoryError, RecursionError, SyntaxError, ValueError):
        return []
    return [part for part in found if isinstance(part, str)]


def _stem(name: str) -> str:
    return re.sub(r"(_[0-9]+)+$", "", name)
