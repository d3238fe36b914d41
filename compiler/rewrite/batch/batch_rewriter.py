"""The model in the making while a batch is brought to the front of every value.

What handlers of operators share: the nodes and constants made so far, the shape under
which each value is kept (see `batch_layout`), and the alignment of inputs with an
output.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from starling.compiler.errors import CompileError
from starling.compiler.ir.graph_writer import Shape
from starling.compiler.ir.network import Array, NetworkNode
from starling.compiler.rewrite.batch.batch_layout import BatchLayout
from starling.compiler.rewrite.shape_inference import BatchSize, Extent, Repeated


class RewrittenGraph:
    """Nodes, constants and the shapes that are kept.

    Attributes:
      nodes: Rewritten so far.
      constants: By name.
      layouts: Of each batched value of the model that has been seen.
      extents: Of each value of the model.
      made: Shapes of values that the model does not have.
      counts: Whole numbers that grow with the batch.
    """

    def __init__(
        self,
        extents: Mapping[str, Extent],
        constants: Mapping[str, Array],
        entry: str,
        repeated: Mapping[str, Repeated | None] | None = None,
        counts: Mapping[str, BatchSize] | None = None,
    ) -> None:
        """Starts with the entry alone.

        Args:
          extents: Of each value of the model.
          constants: Of the model.
          entry: Name of its only input.
          repeated: Constants with a batch axis; None for one that differs from
            example to example.
          counts: Whole numbers that grow with the batch.
        """
        self.nodes: list[NetworkNode] = []
        self.constants = dict(constants)
        self.layouts: dict[str, BatchLayout] = {}
        self.extents = extents
        self.made: dict[str, Shape] = {}
        self.repeated = repeated or {}
        self.counts = counts or {}
        self._uniform: dict[str, str] = {}
        self._count = 0
        extent = extents[entry]
        assert extent.batch is not None
        self.layouts[entry] = BatchLayout(extent.sizes, extent.batch)

    @property
    def shapes(self) -> dict[str, Shape]:
        """Of every value that is kept."""
        static = {
            name: extent.sizes
            for name, extent in self.extents.items()
            if extent.batch is None
        }
        batched = {name: layout.shape for name, layout in self.layouts.items()}
        return {**static, **batched, **self.made}

    def keep(self, node: NetworkNode, *layouts: BatchLayout) -> None:
        """Takes a node over; its outputs are kept as told, or as in the model."""
        self.nodes.append(node)
        for index, name in enumerate([name for name in node.outputs if name]):
            extent = self.extents.get(name)
            if extent is None or extent.batch is None:
                continue
            layout = layouts[min(index, len(layouts) - 1)] if layouts else None
            self.layouts[name] = layout or BatchLayout(extent.sizes, extent.batch)

    def constant(self, values: Sequence[int]) -> str:
        """The name of a new vector of integers."""
        return self.array("integers", np.array(values, np.int64))

    def array(self, stem: str, value: Array) -> str:
        """The name of a new constant."""
        name = self._fresh(stem)
        self.constants[name] = value
        self.made[name] = value.shape
        return name

    def reshaped(self, name: str, shape: Shape) -> str:
        """The name of a value in another shape of the kept kind."""
        if self.shape(name) == shape:
            return name
        made = self._fresh(name)
        self.nodes.append(NetworkNode("Reshape", made, (name,), (made,), {}))
        self.made[made] = shape
        return made

    def transposed(self, name: str, order: Sequence[int], made: str = "") -> str:
        """The name of a value with its kept axes in another order.

        Args:
          name: Of the value.
          order: Axis `i` of the result is axis `order[i]` of the value.
          made: Name of the result where the model has one.
        """
        if not made:
            made = self._fresh(name)
            self.made[made] = tuple([self.shape(name)[axis] for axis in order])
        attributes = {"perm": list(order)}
        self.nodes.append(NetworkNode("Transpose", made, (name,), (made,), attributes))
        return made

    def shape(self, name: str) -> Shape:
        """The shape under which a value is kept."""
        if name in self.made:
            return self.made[name]
        if name in self.layouts:
            return self.layouts[name].shape
        return self.extents[name].sizes

    def output(self, node: NetworkNode) -> Extent:
        """The first output's shape in the model."""
        return self.extents[node.outputs[0]]

    def batched(self, node: NetworkNode) -> list[str]:
        """The inputs that depend on the batch."""
        return [name for name in node.inputs if name in self.layouts]

    def before(self, node: NetworkNode, batched: Sequence[str]) -> int:
        """Size in front of the batch within its axis, the same in all inputs.

        Raises:
          CompileError: If inputs differ, so that the node would mix examples.
        """
        # What is the same all along its axis fits any layout, and one part has none
        # before it: neither says anything of the others.
        inside = {
            self.layouts[name].before
            for name in batched
            if self.layouts[name].sizes[self.layouts[name].batch] > 1
            and name not in self._uniform
        }
        if len(inside) > 1:
            raise refuse(node)
        return inside.pop() if inside else 1

    def repeat(self, name: str) -> None:
        """Repeats a constant along the batch.

        One that counts through the batch has no value here, but may say places.

        Raises:
          CompileError: If it differs from example to example in another way.
        """
        extent, item = self.extents[name], self.repeated[name]
        if item is None or extent.batch is None:
            raise CompileError(
                f"{name}: a constant that differs from example to example; feed it "
                "as part of the input, or make it the same for all",
                (name,),
            )
        # Only indexing reads it, and takes it from `repeated` itself
        # (`constant_indexing`).
        if item.step is not None:
            return
        # One row in the file and an Expand in the graph: a constant of n rows would fix
        # the batch.
        once = self.array(f"{name}/once", item.once)
        if not item.before:
            self._uniform[name] = once
        self._expand(
            name, once, BatchLayout(extent.sizes, extent.batch, item.before or 1)
        )

    def call(
        self,
        kind: str,
        inputs: tuple[str, ...],
        shape: Shape,
        **attributes: int,
    ) -> str:
        """The name of what a new node gives, which is kept in a shape."""
        made = self._fresh(kind.lower())
        self.nodes.append(NetworkNode(kind, made, inputs, (made,), attributes))
        self.made[made] = shape
        return made

    def relaid(self, name: str, before: int) -> str:
        """A value kept with another `before`, where it is the same all along its axis.

        Others come back as they are.
        """
        if name not in self._uniform or self.layouts[name].before == before:
            return name
        layout = BatchLayout(self.layouts[name].sizes, self.layouts[name].batch, before)
        made = self._fresh(name)
        self._expand(made, self._uniform[name], layout)
        return made

    def aligned(
        self, node: NetworkNode, name: str, layout: BatchLayout, tail: int = 0
    ) -> str:
        """An input in a shape that broadcasts against the kept output.

        Args:
          node: Whose input it is.
          name: Of the input.
          layout: Of the output.
          tail: Number of last axes that do not broadcast (those of a matrix product).

        Raises:
          CompileError: If the batch stands elsewhere in the input.
        """
        name = self.relaid(name, layout.before)
        mine = self.layouts.get(name)
        sizes = mine.sizes if mine else self.extents[name].sizes
        lead = len(layout.sizes) - len(sizes)
        if mine is not None and mine.batch + lead != layout.batch:
            raise refuse(node)
        if mine is None and len(sizes) + tail == 0:
            return name
        shape: list[int] = []
        for axis, parts in enumerate(layout.parts):
            size = sizes[axis - lead] if axis >= lead else 1
            if axis >= len(layout.sizes) - tail:
                shape.append(size)
            elif axis == layout.batch and mine is not None:
                shape += parts if size > 1 else (1,) * len(parts)
            # A static operand that is longer than 1 there fits one size of the batch
            # alone.
            elif axis == layout.batch and size != 1:
                raise refuse(node)
            else:
                shape += (size,) * len(parts)
        if mine is not None:
            return self.reshaped(name, (None, *shape))
        # Without parts the axes are those of the model, and NumPy's rules line them up.
        if layout.plain or not sizes:
            return name
        return self.reshaped(name, (1, *shape))

    def _expand(self, name: str, once: str, layout: BatchLayout) -> None:
        value = self.constants[once]
        shape = [1]
        for axis, parts in enumerate(layout.parts):
            whole = axis != layout.batch or value.shape[axis] > 1
            shape += parts if whole else (1,) * len(parts)
        source = self.array(once, value.reshape(shape))
        self.nodes.append(NetworkNode("Expand", name, (source,), (name,), {}))
        self.layouts[name] = layout

    def _fresh(self, stem: str) -> str:
        self._count += 1
        return f"{stem}/kept{self._count}"


def refuse(node: NetworkNode) -> CompileError:
    """The error for a node that reads several examples at once."""
    return CompileError(
        f"{node.label}: mixes the examples of a batch; each row of the output has to "
        "come from one row of the input: leave out what compares, sorts or joins "
        "examples, or feed what belongs together as one example",
        (node.name,),
    )
