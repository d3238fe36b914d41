"""LSTM, GRU and RNN, unrolled through time.

Every step is written out, so that the way back is that of its parts. What the weights
get is collected over all steps: one matrix of cotangents and one of inputs, a row each
for a step, as of a linear layer on a sequence. Where examples have lengths of their
own, a step beyond an example's length leaves its state alone and gives zeros.

Letters: n examples, t steps, d directions, i inputs, h hidden values, k gates.

Source: the operators LSTM, GRU and RNN of ONNX, whose order of gates is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from starling.compiler.autodiff.gradient_factors import (
    Blocks,
    GradientFactors,
    Positions,
    Rows,
)
from starling.compiler.autodiff.rules.recurrence.recurrent_cell import (
    GruCell,
    LstmCell,
    PlainRnnCell,
    RecurrentCell,
    State,
)
from starling.compiler.autodiff.tape import Tape
from starling.compiler.errors import CompileError
from starling.compiler.ir.graph_builder import BuilderTensor, GraphBuilder
from starling.compiler.ir.network import NetworkNode

STEPS_MAX = 256
"""About thirty nodes stand for a step, and a board refuses graphs of 16,384."""

_X, _W, _R, _B, _LENGTHS, _INITIAL = 0, 1, 2, 3, 4, 5


def forward(tape: Tape, node: NetworkNode) -> None:
    """Writes all steps: Y (n, t, d, h), then the last states (n, d, h).

    Raises:
      CompileError: If the node asks for what is not unrolled.
    """
    _check(tape, node)
    build, shape = tape.build, tape.input(node, _X).shape
    runs = [_run(tape, node, way) for way in range(len(_ways(node)))]
    hidden = runs[0].states[0][0].row[0]
    rows = []
    for run in runs:
        given = [state[0] for state in run.outputs]
        # ONNX gives zeros beyond an example's length, while the state stays as it was.
        if run.inside:
            given = [build.mul(y, m) for y, m in zip(given, run.inside, strict=True)]
        steps = [build.reshape(output, (None, 1, 1, hidden)) for output in given]
        rows.append(build.concat(steps, 1))
    assert shape[1] is not None
    outputs = [build.concat(rows, 2)]
    for part in range(len(runs[0].states[0])):
        last = [build.reshape(run.states[-1][part], (None, 1, hidden)) for run in runs]
        outputs.append(build.concat(last, 1))
    tape.put(node, *outputs)


def backward(tape: Tape, node: NetworkNode) -> None:
    """Back through all steps of each direction."""
    build, x = tape.build, tape.input(node, _X)
    back = [_Way(tape, node, way) for way in range(len(_ways(node)))]
    if tape.needs(node, _X):
        for way in back:
            weight = _direction(build, tape.input(node, _W), way.index)
            tape.give(node, _X, build.matmul(way.inputs, weight))
    if tape.needs(node, _W):
        tape.credit(node, _W, _blocks([Positions(way.inputs, x) for way in back]))
    if tape.needs(node, _R):
        tape.credit(node, _R, _blocks([way.recurrence for way in back]))
    if tape.needs(node, _B):
        rows = [build.reduce("ReduceSum", way.inputs, [1]) for way in back]
        more = [build.reduce("ReduceSum", way.products, [1]) for way in back]
        pairs = [part for pair in zip(rows, more, strict=True) for part in pair]
        tape.credit(node, _B, Rows(build.concat(pairs, 1)))
    for part in range(len(back[0].first)):
        if tape.needs(node, _INITIAL + part):
            first = [build.reshape(w.first[part], (None, 1, w.hidden)) for w in back]
            tape.give(node, _INITIAL + part, build.concat(first, 1))


@dataclass(frozen=True)
class _Run:
    """One direction going forward.

    Attributes:
      cell: What is done at each step.
      order: Steps in the order in which they are taken.
      inputs: For each step in time, what the input adds to the gates, (n, k h).
      states: Before the first step taken and after each, in order taken.
      inside: For each step in time, 1.0 in examples that reach it, (n, 1); empty where
        all do.
    """

    cell: RecurrentCell
    order: tuple[int, ...]
    inputs: tuple[BuilderTensor, ...]
    states: tuple[State, ...]
    inside: tuple[BuilderTensor, ...]

    @property
    def outputs(self) -> list[State]:
        """The states after each step, in order of time."""
        after = dict(zip(self.order, self.states[1:], strict=True))
        return [after[step] for step in range(len(self.order))]


def _run(tape: Tape, node: NetworkNode, index: int) -> _Run:
    """Equal nodes are written once, so that the way back may ask for it again."""
    build, x = tape.build, tape.input(node, _X)
    steps = x.row[0]
    weight = _direction(build, tape.input(node, _W), index)
    added = build.matmul(x, build.swap(weight))
    recurrent = _direction(build, tape.input(node, _R), index)
    bias = None
    if len(node.inputs) > _B and node.inputs[_B]:
        both = _direction(build, tape.input(node, _B), index)
        half = both.row[0] // 2
        added = build.add(added, build.slice(both, 0, 0, half))
        bias = build.slice(both, 0, half, 2 * half)
    cell = _cell(build, node, recurrent, bias)
    inputs, inside = _split(build, added), _inside(tape, node)
    order = tuple(range(steps))
    # Examples of several lengths need no turning: their state stands still until their
    # own last step is reached.
    order = order if _ways(node)[index] == "forward" else order[::-1]
    states = [_initial(tape, node, index, cell)]
    for step in order:
        after = cell.forward(inputs[step], states[-1])
        if inside:
            after = _kept(build, inside[step], after, states[-1])
        states.append(after)
    return _Run(cell, order, inputs, tuple(states), inside)


def _cell(
    build: GraphBuilder,
    node: NetworkNode,
    recurrent: BuilderTensor,
    bias: BuilderTensor | None,
) -> RecurrentCell:
    if node.kind == "LSTM":
        return LstmCell(build, recurrent, bias)
    if node.kind == "GRU":
        late = bool(node.attributes.get("linear_before_reset", 0))
        return GruCell(build, recurrent, bias, late=late)
    bends = node.attributes.get("activations", _PLAIN["RNN"])[0].decode()
    return PlainRnnCell(build, recurrent, bias, bends=bends)


def _inside(tape: Tape, node: NetworkNode) -> tuple[BuilderTensor, ...]:
    """For each step, 1.0 in the examples that are long enough for it."""
    if len(node.inputs) <= _LENGTHS or not node.inputs[_LENGTHS]:
        return ()
    build, steps = tape.build, tape.input(node, _X).row[0]
    lengths = build.unary("Cast", tape.input(node, _LENGTHS), to=1)
    column = build.reshape(lengths, (None, 1))
    found = []
    for step in range(steps):
        reached = build.op("Greater", (column, build.scalar(step)), (None, 1))
        found.append(build.unary("Cast", reached, to=1))
    return tuple(found)


def _kept(
    build: GraphBuilder, inside: BuilderTensor, after: State, before: State
) -> State:
    """The new state of the examples that reach a step, the old one of the others."""
    return tuple(
        [
            build.add(old, build.mul(inside, build.binary("Sub", new, old)))
            for new, old in zip(after, before, strict=True)
        ]
    )


class _Way:
    """One direction coming back.

    Attributes:
      index: Of the direction.
      hidden: h.
      inputs: (n, t, k h) cotangents of what the input adds to the gates.
      products: (n, t, k h) the same of what the recurrence adds.
      recurrence: The use of the recurrent matrix.
      first: Cotangents of the initial states.
    """

    def __init__(self, tape: Tape, node: NetworkNode, index: int) -> None:
        build, run = tape.build, _run(tape, node, index)
        self.index = index
        self.hidden = run.states[0][0].row[0]
        given = _given(tape, node, index, self.hidden)
        state = _last(tape, node, index, self.hidden, len(run.states[0]))
        inputs: dict[int, BuilderTensor] = {}
        products: dict[int, BuilderTensor] = {}
        before = dict(zip(run.order, run.states[:-1], strict=True))
        for step in reversed(run.order):
            arrived = (_sum(build, given[step], state[0]), *state[1:])
            passed: tuple[BuilderTensor | None, ...] = (None,) * len(state)
            if run.inside:
                arrived = _masked(build, run.inside[step], arrived)
                # Beyond its length an example's state passed the step untouched, and so
                # does its cotangent.
                passed = _masked(build, _other(build, run.inside[step]), state)
            # The cell asks for its gates again; equal nodes are written once, so
            # nothing is computed twice.
            back = run.cell.backward(run.inputs[step], before[step], arrived)
            inputs[step], products[step] = back.inputs, back.products
            both = zip(back.state, passed, strict=True)
            state = tuple([_sum(build, *pair) for pair in both])
        self.inputs = _stacked(build, inputs)
        self.products = _stacked(build, products)
        self.first = [
            build.mul(build.scalar(0.0), run.states[0][part]) if item is None else item
            for part, item in enumerate(state)
        ]
        earlier = {step: entry[0] for step, entry in before.items()}
        gated = {
            step: run.cell.gated(run.inputs[step], entry)
            for step, entry in before.items()
        }
        self.recurrence = run.cell.recurrence(
            self.products, _stacked(build, earlier), _stacked(build, gated)
        )


def _masked(
    build: GraphBuilder,
    inside: BuilderTensor,
    cotangents: tuple[BuilderTensor | None, ...],
) -> tuple[BuilderTensor | None, ...]:
    return tuple([c and build.mul(inside, c) for c in cotangents])


def _other(build: GraphBuilder, inside: BuilderTensor) -> BuilderTensor:
    return build.binary("Sub", build.scalar(1.0), inside)


def _given(
    tape: Tape, node: NetworkNode, index: int, hidden: int
) -> Sequence[BuilderTensor | None]:
    """For each step, the cotangent of its output."""
    steps = tape.input(node, _X).row[0]
    if not (node.outputs[0] and tape.reached(node, 0)):
        return [None] * steps
    build, cotangent = tape.build, tape.cotangent(node)
    mine = build.slice(cotangent, 2, index, index + 1)
    return _split(build, build.reshape(mine, (None, steps, hidden)))


def _last(
    tape: Tape, node: NetworkNode, index: int, hidden: int, parts: int
) -> tuple[BuilderTensor | None, ...]:
    """The cotangents of the last states."""
    build = tape.build
    found: list[BuilderTensor | None] = []
    for part in range(1, parts + 1):
        named = part < len(node.outputs) and node.outputs[part]
        if not (named and tape.reached(node, part)):
            found.append(None)
            continue
        mine = build.slice(tape.cotangent(node, part), 1, index, index + 1)
        found.append(build.reshape(mine, (None, hidden)))
    return tuple(found)


def _initial(tape: Tape, node: NetworkNode, index: int, cell: RecurrentCell) -> State:
    build, states = tape.build, []
    for part in range(cell.parts):
        position = _INITIAL + part
        if position < len(node.inputs) and node.inputs[position]:
            given = build.slice(tape.input(node, position), 1, index, index + 1)
            states.append(build.reshape(given, (None, cell.hidden)))
        else:
            states.append(build.expand(build.scalar(0.0), (None, cell.hidden)))
    return tuple(states)


def _direction(build: GraphBuilder, tensor: BuilderTensor, index: int) -> BuilderTensor:
    part = build.slice(tensor, 0, index, index + 1)
    return build.reshape(part, part.row[1:])


def _blocks(uses: Sequence[GradientFactors]) -> GradientFactors:
    return uses[0] if len(uses) == 1 else Blocks(tuple(uses))


def _split(build: GraphBuilder, sequence: BuilderTensor) -> tuple[BuilderTensor, ...]:
    steps, width = sequence.row
    if steps == 1:
        return (build.reshape(sequence, (None, width)),)
    sizes = build.integers(*[1] * steps)
    parts = build.ops("Split", (sequence, sizes), [(None, 1, width)] * steps, axis=1)
    return tuple([build.reshape(part, (None, width)) for part in parts])


def _stacked(build: GraphBuilder, rows: dict[int, BuilderTensor]) -> BuilderTensor:
    ordered = [rows[step] for step in sorted(rows)]
    width = ordered[0].row[0]
    return build.concat([build.reshape(row, (None, 1, width)) for row in ordered], 1)


def _sum(
    build: GraphBuilder, left: BuilderTensor | None, right: BuilderTensor | None
) -> BuilderTensor | None:
    if left is None or right is None:
        return left if right is None else right
    return build.add(left, right)


def _ways(node: NetworkNode) -> tuple[str, ...]:
    direction = node.attributes.get("direction", b"forward").decode()
    return ("forward", "reverse") if direction == "bidirectional" else (direction,)


_PLAIN = {
    "LSTM": [b"Sigmoid", b"Tanh", b"Tanh"],
    "GRU": [b"Sigmoid", b"Tanh"],
    "RNN": [b"Tanh"],
}


def _check(tape: Tape, node: NetworkNode) -> None:
    steps = tape.input(node, _X).row[0]
    plain = _PLAIN[node.kind] * len(_ways(node))
    given = list(node.attributes.get("activations", plain))
    rectified = node.kind == "RNN" and {*given} == {b"Relu"}
    lengths = node.inputs[_LENGTHS] if len(node.inputs) > _LENGTHS else ""
    refused = {
        "other activations": given != plain and not rectified,
        "a clip": "clip" in node.attributes,
        "coupled gates": node.attributes.get("input_forget", 0) != 0,
        "peepholes": len(node.inputs) > 7 and bool(node.inputs[7]),
        "lengths that are the same for each example": bool(
            lengths and not tape.values[lengths].batched
        ),
        f"more than {STEPS_MAX} steps ({steps})": steps > STEPS_MAX,
        "weights that differ by example": tape.input(node, _W).batched,
    }
    for what, found in refused.items():
        if found:
            raise CompileError(
                f"{node.label}: {what} cannot be trained; write its cell with plain "
                "operators, step by step, or feed shorter sequences",
                (node.name,),
            )
