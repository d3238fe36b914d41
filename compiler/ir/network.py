"""A model as the compiler sees it: nodes in order, constants, parameters and shapes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starling.compiler.ir.graph_writer import Shape
from starling.protocol.model.lookup_table import LookupTable

Array = NDArray[np.generic]


@dataclass(frozen=True)
class NetworkNode:
    """One operator of the model.

    Attributes:
      kind: The operator.
      name: As the model calls it, or its first output where it has no name.
      inputs: Names of values; "" is an optional input that is left out.
      outputs: Names of values.
      attributes: As ONNX's own Python values.
      fold: Axes behind the batch that the operator takes as more of the batch.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    fold: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        """Name of the node in messages."""
        return f"{self.name} ({self.kind})"


@dataclass(frozen=True)
class Network:
    """A checked model; every node has a rule.

    Attributes:
      name: Of the graph.
      nodes: Each after the ones whose outputs it reads.
      constants: Name to value, of everything that is not trained.
      parameters: Name to initial value (float32) of what is trained, in model order.
      frozen: Names of constants that could have been trained.
      shapes: Of every value, None for the batch axis.
      input: Name of x.
      output: Name of the value that `infer` returns.
      tables: Which places of x are looked up in tables, and their heights.
      fixed: Name of a tensor to why it is no weight.
      aliases: Name of a weight to what the program calls it, where that differs.
      notes: Lines for whoever compiles the model.
      batch: How many examples the file was exported for; None if for any number.
    """

    name: str
    nodes: tuple[NetworkNode, ...]
    constants: Mapping[str, Array]
    parameters: Mapping[str, NDArray[np.float32]]
    frozen: tuple[str, ...]
    shapes: Mapping[str, Shape]
    input: str
    output: str
    tables: tuple[LookupTable, ...] = ()
    fixed: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    batch: int | None = None

    @property
    def dimension(self) -> int:
        """d, the number of trained values."""
        return sum([array.size for array in self.parameters.values()])
