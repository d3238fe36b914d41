"""Names of the source model's inputs and output.

The graphs of a bundle have one input x. An exported model has the inputs of the model
that was compiled, in its order: flattened and laid one behind the other they are x.
"""

import math
from dataclasses import dataclass
from typing import Any

from starling.protocol.errors import DecodeError
from starling.protocol.model.parameter_layout import NAME_CHARS_MAX, read_shape
from starling.protocol.schema.json_document import check_fields, choice, items, text

INPUTS_MAX = 256
SOURCE_DTYPES = ("float32", "int64", "int32", "bool")


@dataclass(frozen=True)
class SourcePort:
    """One input of the source model, without the leading batch axis.

    Attributes:
      name: As the source model has it.
      dtype: One of `SOURCE_DTYPES`; wider and narrower floats are float32 here.
      shape: Of one example.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class SourcePorts:
    """The signature of the source model.

    Attributes:
      inputs: In its order; at least one.
      output: Name of the output that is trained.
    """

    inputs: tuple[SourcePort, ...]
    output: str

    def __post_init__(self) -> None:
        """Refuses what no ONNX graph can have.

        Raises:
          DecodeError: If there is no input, or a name is empty or stands twice.
        """
        names = [port.name for port in self.inputs] + [self.output]
        if not self.inputs or "" in names or len({*names}) != len(names):
            raise DecodeError("manifest.source: names are missing or stand twice")

    def check_row(self, values: int) -> None:
        """Refuses inputs that do not make up x.

        Raises:
          DecodeError: If they have more or fewer values together.
        """
        if sum(math.prod(port.shape) for port in self.inputs) != values:
            raise DecodeError(f"manifest.source: not {values} values together")

    def document(self) -> dict[str, object]:
        """As it stands in a manifest."""
        return {
            "inputs": [
                {"name": port.name, "dtype": port.dtype, "shape": list(port.shape)}
                for port in self.inputs
            ],
            "output": self.output,
        }


def read_source(value: Any, place: str) -> SourcePorts:  # noqa: ANN401 - from the JSON reader
    """Reads the source model's signature from a manifest.

    Raises:
      DecodeError: If a field is missing, unknown or out of bounds.
    """
    check_fields(value, place, ("inputs", "output"))
    rows = items(value["inputs"], place, INPUTS_MAX)
    return SourcePorts(
        tuple([_port(row, f"{place}.inputs") for row in rows]),
        text(value["output"], place, NAME_CHARS_MAX),
    )


def _port(row: Any, place: str) -> SourcePort:  # noqa: ANN401 - from the JSON reader
    check_fields(row, place, ("name", "dtype", "shape"))
    return SourcePort(
        text(row["name"], place, NAME_CHARS_MAX),
        choice(row["dtype"], place, SOURCE_DTYPES),
        read_shape(row["shape"], place),
    )
