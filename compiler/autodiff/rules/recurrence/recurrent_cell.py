"""One step of an LSTM, a GRU or a plain recurrent layer, forward and back.

Letters: n examples, h hidden values, k gates.

Source: Hochreiter and Schmidhuber 1997; Cho et al., arXiv:1406.1078.
"""

from dataclasses import dataclass
from typing import Protocol

from starling.compiler.autodiff.gradient_factors import (
    Blocks,
    GradientFactors,
    Positions,
)
from starling.compiler.ir.graph_builder import BuilderTensor, GraphBuilder

State = tuple[BuilderTensor, ...]
"""(n, h) each: the output, and for an LSTM the memory."""


@dataclass(frozen=True)
class CellCotangents:
    """Cotangents that flow back through one step.

    Attributes:
      inputs: (n, k h) cotangent of what the input adds to the gates.
      products: (n, k h) cotangent of what the recurrent matrix adds.
      state: Cotangents of the state before.
    """

    inputs: BuilderTensor
    products: BuilderTensor
    state: tuple[BuilderTensor | None, ...]


class RecurrentCell(Protocol):
    """Computation of one step of a recurrent layer."""

    @property
    def parts(self) -> int:
        """Number of tensors in a state."""
        ...

    @property
    def hidden(self) -> int:
        """Values in the output."""
        ...

    def forward(self, added: BuilderTensor, state: State) -> State:
        """The state after a step; `added` (n, k h) is what the input adds."""
        ...

    def backward(
        self,
        added: BuilderTensor,
        state: State,
        given: tuple[BuilderTensor | None, ...],
    ) -> CellCotangents:
        """Back through the step from `state`; `given` are cotangents of its results."""
        ...

    def gated(self, added: BuilderTensor, state: State) -> BuilderTensor:
        """(n, h): what the last gate's recurrent matrix was applied to."""
        ...

    def recurrence(
        self, products: BuilderTensor, before: BuilderTensor, gated: BuilderTensor
    ) -> GradientFactors:
        """The use of the recurrent matrix over all steps, (n, t, ...) each."""
        ...


class LstmCell:
    """Gates in the order input, output, forget, candidate."""

    parts = 2

    def __init__(
        self, build: GraphBuilder, recurrent: BuilderTensor, bias: BuilderTensor | None
    ) -> None:
        self._build = build
        self._recurrent = recurrent
        self._bias = bias
        self.hidden = recurrent.row[1]

    def forward(self, added: BuilderTensor, state: State) -> State:
        """See `RecurrentCell`."""
        build = self._build
        gates, candidate = self._gates(added, state)
        enter, leave, keep = self._three(gates)
        memory = build.add(build.mul(keep, state[1]), build.mul(enter, candidate))
        return build.mul(leave, build.unary("Tanh", memory)), memory

    def backward(
        self,
        added: BuilderTensor,
        state: State,
        given: tuple[BuilderTensor | None, ...],
    ) -> CellCotangents:
        """See `RecurrentCell`."""
        build = self._build
        gates, candidate = self._gates(added, state)
        enter, leave, keep = self._three(gates)
        # Asked for once more and yet in the graph once, since the builder joins equal
        # nodes.
        bent = build.unary("Tanh", self.forward(added, state)[1])
        output, memory = given
        # Zeros for as many examples as the batch has, which the graph does not know.
        none = build.mul(build.scalar(0.0), bent)
        output = none if output is None else output
        through = build.mul(build.mul(output, leave), _rest(build, bent))
        memory = through if memory is None else build.add(memory, through)
        parts = [
            build.mul(memory, candidate),
            build.mul(output, bent),
            build.mul(memory, state[1]),
        ]
        slopes = build.mul(gates, build.binary("Sub", build.scalar(1.0), gates))
        outer = build.mul(build.concat(parts, 1), slopes)
        inner = build.mul(build.mul(memory, enter), _rest(build, candidate))
        change = build.concat([outer, inner], 1)
        before = build.matmul(change, self._recurrent)
        return CellCotangents(change, change, (before, build.mul(memory, keep)))

    def gated(self, added: BuilderTensor, state: State) -> BuilderTensor:
        """See `RecurrentCell`."""
        del added
        return state[0]

    def recurrence(
        self, products: BuilderTensor, before: BuilderTensor, gated: BuilderTensor
    ) -> GradientFactors:
        """See `RecurrentCell`."""
        del gated
        return Positions(products, before)

    def _gates(
        self, added: BuilderTensor, state: State
    ) -> tuple[BuilderTensor, BuilderTensor]:
        build, size = self._build, self.hidden
        product = build.matmul(state[0], build.swap(self._recurrent))
        total = build.add(added, product)
        if self._bias is not None:
            total = build.add(total, self._bias)
        outer = build.unary("Sigmoid", build.slice(total, 1, 0, 3 * size))
        inner = build.unary("Tanh", build.slice(total, 1, 3 * size, 4 * size))
        return outer, inner

    def _three(self, gates: BuilderTensor) -> tuple[BuilderTensor, ...]:
        size = self.hidden
        return tuple(
            [
                self._build.slice(gates, 1, index * size, (index + 1) * size)
                for index in range(3)
            ]
        )


class GruCell:
    """Gates in the order update, reset, candidate.

    With `late` the reset gate acts on the product with the recurrent matrix (as
    PyTorch and Keras have it), otherwise on the state before that product.
    """

    parts = 1

    def __init__(
        self,
        build: GraphBuilder,
        recurrent: BuilderTensor,
        bias: BuilderTensor | None,
        *,
        late: bool,
    ) -> None:
        self._build = build
        self._recurrent = recurrent
        self._bias = bias
        self._late = late
        self.hidden = recurrent.row[1]

    def forward(self, added: BuilderTensor, state: State) -> State:
        """See `RecurrentCell`."""
        build = self._build
        update, _, candidate, _ = self._gates(added, state[0])
        change = build.binary("Sub", state[0], candidate)
        return (build.add(candidate, build.mul(update, change)),)

    def backward(
        self,
        added: BuilderTensor,
        state: State,
        given: tuple[BuilderTensor | None, ...],
    ) -> CellCotangents:
        """See `RecurrentCell`."""
        build, h, size = self._build, state[0], self.hidden
        update, reset, candidate, product = self._gates(added, h)
        output = given[0]
        if output is None:
            output = build.mul(build.scalar(0.0), h)
        one = build.scalar(1.0)
        kept = build.binary("Sub", one, update)
        inner = build.mul(build.mul(output, kept), _rest(build, candidate))
        before = build.mul(output, update)
        if self._late:
            to_reset, last = build.mul(inner, product), build.mul(inner, reset)
        else:
            matrix = build.slice(self._recurrent, 0, 2 * size, 3 * size)
            spread = build.matmul(inner, matrix)
            to_reset, last = build.mul(spread, h), inner
            before = build.add(before, build.mul(spread, reset))
        to_update = build.mul(output, build.binary("Sub", h, candidate))
        gates = build.concat([update, reset], 1)
        slopes = build.mul(gates, build.binary("Sub", one, gates))
        outer = build.mul(build.concat([to_update, to_reset], 1), slopes)
        products = build.concat([outer, last], 1)
        if self._late:
            back = build.matmul(products, self._recurrent)
        else:
            matrix = build.slice(self._recurrent, 0, 0, 2 * size)
            back = build.matmul(outer, matrix)
        inputs = build.concat([outer, inner], 1)
        return CellCotangents(inputs, products, (build.add(before, back),))

    def gated(self, added: BuilderTensor, state: State) -> BuilderTensor:
        """See `RecurrentCell`."""
        if self._late:
            return state[0]
        return self._build.mul(self._gates(added, state[0])[1], state[0])

    def recurrence(
        self, products: BuilderTensor, before: BuilderTensor, gated: BuilderTensor
    ) -> GradientFactors:
        """See `RecurrentCell`."""
        if self._late:
            return Positions(products, before)
        build, size = self._build, self.hidden
        outer = build.slice(products, 2, 0, 2 * size)
        last = build.slice(products, 2, 2 * size, 3 * size)
        return Blocks((Positions(outer, before), Positions(last, gated)))

    def _gates(
        self, added: BuilderTensor, h: BuilderTensor
    ) -> tuple[BuilderTensor, BuilderTensor, BuilderTensor, BuilderTensor]:
        """Update, reset, candidate, and the product that the candidate is made of."""
        build, size = self._build, self.hidden
        matrix, bias = self._recurrent, self._bias
        # Apart from the candidate's product, which needs the reset gate first.
        outer = _linear(
            build,
            h,
            build.slice(matrix, 0, 0, 2 * size),
            bias and build.slice(bias, 0, 0, 2 * size),
        )
        total = build.add(build.slice(added, 1, 0, 2 * size), outer)
        gates = build.unary("Sigmoid", total)
        update = build.slice(gates, 1, 0, size)
        reset = build.slice(gates, 1, size, 2 * size)
        product = _linear(
            build,
            h if self._late else build.mul(reset, h),
            build.slice(matrix, 0, 2 * size, 3 * size),
            bias and build.slice(bias, 0, 2 * size, 3 * size),
        )
        share = build.mul(reset, product) if self._late else product
        sum_ = build.add(build.slice(added, 1, 2 * size, 3 * size), share)
        return update, reset, build.unary("Tanh", sum_), product


class PlainRnnCell:
    """tanh (or ReLU) of the sum."""

    parts = 1

    def __init__(
        self,
        build: GraphBuilder,
        recurrent: BuilderTensor,
        bias: BuilderTensor | None,
        *,
        bends: str,
    ) -> None:
        self._build = build
        self._recurrent = recurrent
        self._bias = bias
        self._bends = bends
        self.hidden = recurrent.row[1]

    def forward(self, added: BuilderTensor, state: State) -> State:
        """See `RecurrentCell`."""
        build = self._build
        product = _linear(build, state[0], self._recurrent, self._bias)
        return (build.unary(self._bends, build.add(added, product)),)

    def backward(
        self,
        added: BuilderTensor,
        state: State,
        given: tuple[BuilderTensor | None, ...],
    ) -> CellCotangents:
        """See `RecurrentCell`."""
        build, y = self._build, self.forward(added, state)[0]
        output = build.mul(build.scalar(0.0), y) if given[0] is None else given[0]
        if self._bends == "Tanh":
            slope = _rest(build, y)
        else:
            above = build.op("Greater", (y, build.scalar(0.0)), y.shape)
            slope = build.op("Cast", (above,), y.shape, to=1)
        change = build.mul(output, slope)
        return CellCotangents(change, change, (build.matmul(change, self._recurrent),))

    def gated(self, added: BuilderTensor, state: State) -> BuilderTensor:
        """See `RecurrentCell`."""
        del added
        return state[0]

    def recurrence(
        self, products: BuilderTensor, before: BuilderTensor, gated: BuilderTensor
    ) -> GradientFactors:
        """See `RecurrentCell`."""
        del gated
        return Positions(products, before)


def _linear(
    build: GraphBuilder,
    x: BuilderTensor,
    matrix: BuilderTensor,
    bias: BuilderTensor | None,
) -> BuilderTensor:
    product = build.matmul(x, build.swap(matrix))
    return product if bias is None else build.add(product, bias)


def _rest(build: GraphBuilder, bent: BuilderTensor) -> BuilderTensor:
    """1 - y^2, the slope of a tanh."""
    return build.binary("Sub", build.scalar(1.0), build.mul(bent, bent))
