"""By which values and places a tensor is known to be no weight.

A file from most exporters does not say what is a weight and what a mask, a table of
positions or the mean of the inputs. These tests hold for such tensors and practically
never for a weight, trained or fresh; what they miss, `--train` leaves out by name.

Source: Vaswani et al. 2017, section 3.5 (positions); Kipf and Welling 2017, section 2
(adjacency); Davis and Mermelstein 1980 (mel filters, cosines).
"""

import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from starling.compiler.ir.network import Array, NetworkNode
from starling.compiler.parameters import constant_values

AROUND_INPUT = "shift or scale of the input"
NO_AXES = "a number without axes"
LONE = "a single number that multiplies"
INFINITE = "holds an infinity"
FIRST = frozenset({"Div", "Sub"})
ARITHMETIC = frozenset({"Add", "Div", "Mul", "Sub"})
_SIZE_MIN = 4
"""Of a matrix that is looked at for a pattern."""
_MASK_MIN = 1e4
"""Masks hold 0 and -1e4 (half precision) or less, to -infinity."""
_ABSURD = 1e30
_CLOSE = 1e-4
_BASIS_MAX = 512
"""Sides of a matrix that is tried for a basis of cosines, at the cost of a cube."""
_MOVERS = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Transpose"})
_SPREADING = frozenset(
    {"Add", "Clip", "Div", "Max", "Min", "Mul", "Pow", "Reciprocal", "Sqrt", "Sub"}
)
"""Of which a spread is computed: the root of a variance, the least off the largest."""
_CROPPERS = frozenset({"Pad", "Slice", "Squeeze", "Unsqueeze"})
_GENERATED = re.compile(
    r"onnx::\w+|val_\d+|/.*_output_\d+|const\w*_?\d*|.*(_recip|__\d+|/[xy](:0)?)"
)
"""What exporters call numbers that the model has no name for."""
_LITERALS = re.compile(r".*/(x|y|Const(_\d+)?)(:0)?")
"""What tf2onnx calls tensors that are no variables of the model."""
_VARIABLE = "ReadVariableOp"
_LEARNED = re.compile(
    r"(.*[./_:])?(alpha|beta|coef\w*|factor|gain|gamma|heat|kernel|lambda\w*|scale|slope"
    r"|temperature|theta|weights?|batchnorm)([./:_].*)?",
    re.IGNORECASE,
)
_SPECTRAL = re.compile(r"(.*\.)?(weight_[uv]|parametrizations\.\w+\.\d+\._[uv])")
"""Estimates of a spectral norm; their parameter has the same name but the ending."""
_BUFFER_NAMES = (
    "adj adjacency anchor_grid anchors attn_mask basis causal_mask cos_cached dct "
    "default_boxes fb fbank filterbank freqs freqs_cis inv_freq mask mean mel_basis "
    "mel_fb pe pixel_mean pixel_std priors sin_cached slopes std tril var variance "
    "window"
)
_BUFFERS = frozenset(_BUFFER_NAMES.split())
"""Last parts of names that people give to buffers."""
_BUFFER_ENDING = re.compile(r"\w+_(mask|mean|window)|(?!log_)\w+_(std|var)")
_RUNNING = re.compile(r"(.*[./])?(running|moving)_(mean|var|variance|std)(/.*|:0)?")
"""Statistics that normalisations keep, by whatever exporter."""
_MOVED = re.compile(
    r"(.*[./])?((running|moving|ema|avg|pop|population)_(mean|avg|average|var|variance"
    r"|std|stddev|min|max|norm|count|sum|weight|w)"
    r"|\w+_(ema|moving_average|running_mean|running_var)|(mean|var|variance|std)_avg"
    r"|(\w+_)?momentum_buffer|exp_avg(_sq)?|(ema_)?cluster_size|embed_avg"
    r"|num_batches_tracked|(min|max)_(val|observed))(/.*|:0)?"
)
"""Averages and counts that a program keeps beside its training."""


def alike(value: Array) -> bool:
    """True if all values are equal, as fresh gains and biases are."""
    return value.size == 0 or bool((value == value.reshape(-1)[0]).all())


def never(value: NDArray[np.float32]) -> str:
    """Reason why values can be no weight in any file; empty if they can.

    What is no number is left to be refused: it is a weight that diverged.
    """
    # Taken for a constant, a diverged weight would go on through the graph unnoticed.
    if np.isnan(value).any():
        return ""
    largest = np.abs(value)
    if np.isinf(largest).any():
        return "a mask" if _masking(value) else INFINITE
    if largest.max() >= _ABSURD:
        return "a bound"
    return "a mask" if _masking(value) else ""


def _masking(value: NDArray[np.float32]) -> bool:
    """True if everything is 0, 1 or far below, and there are some of both."""
    plain = np.isin(value, (0.0, 1.0))
    huge = value <= -_MASK_MIN
    return bool(huge.any() and plain.any() and (plain | huge).all())


def by_name(name: str, value: Array, *, named: bool) -> str:
    """Reason from a tensor's name why it is no weight; empty without one.

    Args:
      name: Of the tensor.
      value: Its values.
      named: Whether the exporter keeps the names that a model has for its tensors.
    """
    # Exporters write eps, scales and exponents so; a layer's own single number is told
    # apart by the survey.
    if value.ndim == 0 or value.size == 1:
        if _GENERATED.fullmatch(name) or name.startswith("const_fold"):
            return "a number of the exporter's"
        if value.ndim == 0 and not named:
            return NO_AXES
    if named and value.ndim == 1 and _SPECTRAL.fullmatch(name):
        return "estimate of a spectral norm"
    last = name.rpartition(".")[2]
    if named and (last in _BUFFERS or _BUFFER_ENDING.fullmatch(last)):
        return "named like a buffer"
    if _RUNNING.fullmatch(name):
        return "statistics of a normalisation"
    return "a moving average" if _MOVED.fullmatch(name) else ""


def by_value(
    value: NDArray[np.float32], *, layer: bool = True, factor: bool = False
) -> str:
    """Reason from a tensor's values why it is no weight; empty without one.

    Args:
      value: Of the tensor.
      layer: Whether a layer reads it as its weight; numbers in a row may be one there.
      factor: Whether it only multiplies or divides, as fresh biases do not.
    """
    if value.size < 2 or not np.isfinite(value).all():
        return ""
    # Fresh gains and biases are all equal, so equal values alone are no sign.
    if alike(value):
        return "averages" if constant_values.averaging(value) else ""
    if constant_values.two_sided(value) or (factor and constant_values.chooses(value)):
        return "a mask"
    for reason, found in () if layer else _ROWS:
        if found(value):
            return reason
    if value.ndim < 2 or value.size < _SIZE_MIN:
        return ""
    rows = value.reshape(-1, value.shape[-1]).astype(np.float64)
    return next((reason for reason, test in _TESTS if test(value, rows)), "")


def _positions(value: Array, rows: NDArray[np.float64]) -> bool:
    """Sines and cosines of one angle: every row has the same length, sqrt(d / 2).

    Rows of zeros stand for padding or a class token.
    """
    del value
    # cos^2 + sin^2 of each angle is 1, so that the squares of a row sum to half its
    # width.
    rows = rows[rows.any(axis=1)]
    half = rows.shape[1] / 2
    if len(rows) < 2 or rows.shape[1] < 4 or np.abs(rows).max() > 1 + _CLOSE:
        return False
    return bool((np.abs((rows * rows).sum(axis=1) - half) <= _CLOSE * half).all())


def _choices(value: Array, rows: NDArray[np.float64]) -> bool:
    """Zeros and ones, both of them, and not the identity that a weight may start as."""
    square = rows.shape[0] == rows.shape[1]
    identity = square and np.array_equal(rows, np.eye(len(rows)))
    return constant_values.chooses(value) and not (
        identity or constant_values.dirac(value)
    )


def _sparse(value: Array, rows: NDArray[np.float64]) -> bool:
    """Half of it zero, the rest positive and of more than one size."""
    del value
    positive = rows[rows != 0.0]
    if 2 * positive.size > rows.size or not positive.size:
        return False
    return bool(positive.min() > 0.0) and not alike(positive)


def _averages(value: Array, rows: NDArray[np.float64]) -> bool:
    """Not negative, each row, column or filter adds up to one, and not an identity."""
    # Weights are drawn with both signs; a single value in each row chooses, and
    # averages nothing.
    if rows.min() < 0.0 or np.count_nonzero(rows) <= len(rows):
        return False
    filters = value.reshape(len(value), -1).astype(np.float64)
    columns = [rows.T] if value.ndim == 2 and value.shape[1] > 1 else []
    return any(
        part.shape[1] > 1 and bool((np.abs(part.sum(axis=1) - 1.0) <= _CLOSE).all())
        for part in (rows, filters, *columns)
    )


def _symmetric(value: Array, rows: NDArray[np.float64]) -> bool:
    """Equal to its transpose, but for multiples of the identity."""
    if value.ndim != 2 or value.shape[0] != value.shape[1] or len(rows) < 3:
        return False
    diagonal = np.count_nonzero(rows - np.diag(np.diag(rows))) == 0
    return bool(np.array_equal(rows, rows.T)) and not diagonal


def _cosines(value: Array, rows: NDArray[np.float64]) -> bool:
    """Orthogonal with one constant row: a cosine transform, either way round."""
    if value.ndim != 2 or min(value.shape) < 4 or max(value.shape) > _BASIS_MAX:
        return False
    for side in (rows, rows.T):
        # Orthogonal weights are common as a fresh start; the constant row is what
        # tells.
        product = side @ side.T
        lengths = np.sqrt(np.outer(np.diag(product), np.diag(product)))
        off = np.abs(product - np.diag(np.diag(product)))
        constant = (np.ptp(side, axis=1) <= _CLOSE * np.abs(side).max()).any()
        if constant and bool((off <= _CLOSE * lengths.max()).all()):
            return True
    return False


def _whole_kernel(value: Array) -> bool:
    """A convolution of whole numbers, as the expectation over numbered bins is."""
    return value.ndim > 2 and constant_values.whole_numbers(value)


def _repeated(value: Array, rows: NDArray[np.float64]) -> bool:
    """A convolution that does the same to every channel."""
    del rows
    first = value[:1]
    return (
        value.ndim >= 3
        and value.shape[0] > 1
        and not alike(first)
        and bool((value == first).all())
    )


_ROWS = (
    ("a window", constant_values.window),
    ("a table of waves", constant_values.waves),
    ("numbers in a row", constant_values.ramps),
    ("whole numbers", constant_values.whole_numbers),
)
_TESTS = (
    ("a table of positions", _positions),
    ("a matrix of zeros and ones", _choices),
    ("a bank of filters", _sparse),
    ("averages", _averages),
    ("an adjacency matrix", _symmetric),
    ("an adjacency matrix", lambda value, _: constant_values.differences(value)),
    ("a basis of cosines", _cosines),
    ("one filter for all channels", _repeated),
    ("a filter of edges", lambda value, _: constant_values.edges(value)),
    ("wavelets", lambda value, _: constant_values.wavelets(value)),
    ("symmetric filters", lambda value, _: constant_values.symmetric_filters(value)),
    ("distances between places", lambda value, _: constant_values.distances(value)),
    ("a table of waves", lambda value, _: constant_values.waves(value)),
    ("whole numbers", lambda value, _: _whole_kernel(value)),
    ("a basis of polynomials", lambda value, _: constant_values.polynomials(value)),
)


def generated(name: str) -> bool:
    """True if an exporter gave a tensor its name, as the model has none for it."""
    return bool(_GENERATED.fullmatch(name))


def learned_by_name(name: str) -> bool:
    """True if a name says that a number is learned, by whatever exporter."""
    return bool(_LEARNED.fullmatch(name))


def literals(names: Collection[str]) -> frozenset[str]:
    """Names of what a Keras program writes as a number, where others are variables."""
    if not any(_VARIABLE in name for name in names):
        return frozenset()
    return frozenset([name for name in names if _LITERALS.fullmatch(name)])


def around_input(
    nodes: Sequence[NetworkNode],
    tensors: Mapping[str, Array],
    entry: str,
    row: tuple[int, ...],
    first: frozenset[str] = FIRST,
) -> frozenset[str]:
    """Constants that the input is shifted by or divided by, and what scales it then.

    Args:
      nodes: Of the model, in order.
      tensors: Name to value of each initialiser.
      entry: Name of the input.
      row: Shape of one example.
      first: Operators that may begin it; scikit-learn's scalers begin with others,
        too, and none of its models with a weight for each input alone.
    """
    raw, shifted, front = {entry}, set[str](), set[str]()
    found, static = set[str](), set(tensors)
    wide = {name for name, value in tensors.items() if value.size != 1}
    behind: dict[str, tuple[str, ...]] = {
        name: (name,) for name, value in tensors.items() if value.dtype.kind == "f"
    }
    for node in nodes:
        if static.issuperset({*node.inputs} - {""}):
            static.update(node.outputs)
            wide.update(node.outputs if wide.intersection(node.inputs) else ())
            if node.kind in _MOVERS | _CROPPERS | _SPREADING:
                made = [name for each in node.inputs for name in behind.get(each, ())]
                behind |= dict.fromkeys(node.outputs[:1], tuple(dict.fromkeys(made)))
            continue
        source, operand = (*node.inputs, "", "")[:2]
        if node.kind in _MOVERS and (source in raw or source in shifted):
            (raw if source in raw else shifted).update(node.outputs)
            continue
        # `c - x` shifts the input as `x - c` does.
        if node.kind == "Sub" and source in behind:
            source, operand = operand, source
        if behind.get(operand) and len(node.inputs) == 2:
            # A spread may be computed from several tensors; the largest has the shape
            # of an example.
            value = max([tensors[n] for n in behind[operand]], key=lambda v: v.size)
            lone = value.size == 1 and value.ndim > 0 and node.kind in ARITHMETIC
            began = source in raw | front and (node.kind in first or lone)
            goes_on = source in shifted and node.kind in ARITHMETIC
            line = source in front | shifted and value.size == max(
                value.shape, default=1
            )
            if (began or goes_on) and (line or _fits(value, row)):
                found.update(behind[operand])
                shifted.update(node.outputs)
                continue
        # Arithmetic with single numbers (x / 255) goes on in front of the shift; with a
        # wider tensor the model has begun.
        fixed = not wide.intersection(node.inputs)
        if fixed and not shifted.intersection(node.inputs):
            computed = any(name in raw | front for name in node.inputs)
            front.update(node.outputs if computed else ())
    return frozenset(found)


def links(nodes: Sequence[NetworkNode], tensors: Mapping[str, Array]) -> frozenset[str]:
    """Square matrices without a negative value that multiply from the left.

    Layers multiply from the right, and their values are drawn around 0; what one
    place takes from others (a graph's links) is not.

    Args:
      nodes: Of the model.
      tensors: Name to value of each initialiser.
    """
    left = {node.inputs[0] for node in nodes if node.kind == "MatMul"}
    left -= {name for node in nodes for name in node.inputs[node.kind == "MatMul" :]}
    return frozenset(
        [
            name
            for name in left & tensors.keys()
            if tensors[name].shape[-2:-1] == tensors[name].shape[-1:]
            and tensors[name].ndim >= 2
            and not alike(tensors[name])
            and tensors[name].min() >= 0.0
        ]
    )


def lone_biases(
    nodes: Sequence[NetworkNode], tensors: Mapping[str, Array], layers: Collection[str]
) -> frozenset[str]:
    """Single values with axes that are added to what a layer makes: its one bias.

    Args:
      nodes: Of the model, in order.
      tensors: Name to value of each initialiser.
      layers: Operators with weights.
    """
    made, found = set[str](), set[str]()
    for node in nodes:
        weighed = any(tensors[k].size > 1 for k in node.inputs if k in tensors)
        if (node.kind in layers and weighed) or (
            node.kind in _MOVERS | _CROPPERS and made.intersection(node.inputs[:1])
        ):
            made.update(node.outputs)
        elif node.kind == "Add" and made.intersection(node.inputs):
            others = [tensors[name] for name in node.inputs if name in tensors]
            if others and others[0].size == 1 and others[0].ndim:
                found.update(tensors.keys() & {*node.inputs})
    return frozenset(found)


def _fits(value: Array, row: tuple[int, ...]) -> bool:
    """True if an example keeps its shape, or its size at least, under an operand."""
    try:
        shape = np.broadcast_shapes((1, *row), value.shape)
    except ValueError:
        return value.size <= int(np.prod(row))
    return shape == (1, *row)
