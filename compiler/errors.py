"""Errors of a compilation, beside malformed files and wrong commands."""

from starling.protocol.errors import OperationError


class CompileError(OperationError):
    """A sound model that cannot become a training bundle; says where and what helps.

    Attributes:
      nodes: Names of the nodes that stand in the way, in model order; may be empty.
    """

    def __init__(self, detail: str, nodes: tuple[str, ...] = ()) -> None:
        """Keeps the nodes for whoever wants to mark them in the model."""
        super().__init__(detail)
        self.nodes = nodes
