"""The operators that are run, and what of each of them may be written.

Deterministic, without subgraphs, random numbers, strings or optional types. They are
those that the compiler writes, and three more that only change a shape. Beside arity
and attributes it is told which inputs say how large something becomes.

Source: onnx/defs of operator set 18.
"""

from collections.abc import Mapping
from dataclasses import dataclass

MANY = 1 << 14
"""Stands for any number of inputs or outputs."""
INTEGER, REAL, TEXT, INTEGERS = "i", "f", "s", "ints"
"""Kinds of attributes."""


@dataclass(frozen=True)
class AllowedOperator:
    """Forms of one operator that may be written.

    Attributes:
      inputs_min: How many inputs it needs.
      inputs_max: How many it takes.
      outputs_max: How many it has; the first one is always named.
      attributes: Name to kind.
      sizes: Positions of inputs that say shapes, axes, bounds or counts.
    """

    inputs_min: int
    inputs_max: int
    outputs_max: int
    attributes: Mapping[str, str]
    sizes: frozenset[int]


_ARITIES = {
    (1, 1, 1): (
        "Abs Acos Acosh ArgMax ArgMin Asin Asinh Atan Atanh AveragePool Cast Ceil "
        "ConstantOfShape Cos Cosh DepthToSpace Elu Erf Exp Flatten Floor "
        "GlobalAveragePool GlobalMaxPool HardSigmoid HardSwish Identity IsInf IsNaN "
        "LeakyRelu Log LogSoftmax Neg Not Reciprocal Relu Round Selu Shape Sigmoid "
        "Sign Sin Sinh Softmax Softplus Softsign SpaceToDepth Sqrt Tan Tanh Transpose"
    ),
    (1, 1, 2): "MaxPool",
    (1, 2, 1): (
        "ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum "
        "ReduceSumSquare Squeeze"
    ),
    (1, 2, MANY): "Split",
    (1, 3, 1): "Clip",
    (1, MANY, 1): "Concat Einsum Max Min Sum",
    (2, 2, 1): (
        "Add And CumSum Div Equal Expand Gather GatherElements Greater GreaterOrEqual "
        "Less LessOrEqual MatMul Mod Mul Or PRelu Pow Reshape Sub Tile "
        "Unsqueeze"
    ),
    (2, 2, 2): "TopK",
    (2, 3, 1): "Conv ConvTranspose Gemm",
    (2, 3, 3): "LayerNormalization",
    (2, 4, 1): "Pad",
    (3, 3, 1): "OneHot ScatterElements Where",
    (3, 5, 1): "Slice",
    (5, 5, 1): "BatchNormalization",
}
"""Fewest and most inputs, most outputs."""
_ARITY = {name: arity for arity, names in _ARITIES.items() for name in names.split()}
_REDUCTIONS = tuple(name for name in _ARITY if name.startswith("Reduce"))
_WINDOW = "auto_pad:s kernel_shape:ints pads:ints strides:ints"
_ATTRIBUTES = {
    **dict.fromkeys(("ArgMax", "ArgMin"), "axis:i keepdims:i select_last_index:i"),
    "AveragePool": f"{_WINDOW} ceil_mode:i count_include_pad:i",
    "BatchNormalization": "epsilon:f momentum:f",
    "Cast": "to:i",
    "Concat": "axis:i",
    "Conv": f"{_WINDOW} dilations:ints group:i",
    "ConvTranspose": f"{_WINDOW} dilations:ints group:i output_padding:ints",
    "CumSum": "exclusive:i reverse:i",
    "DepthToSpace": "blocksize:i mode:s",
    "Einsum": "equation:s",
    "Elu": "alpha:f",
    "Flatten": "axis:i",
    "Gather": "axis:i",
    "GatherElements": "axis:i",
    "Gemm": "alpha:f beta:f transA:i transB:i",
    "HardSigmoid": "alpha:f beta:f",
    "IsInf": "detect_negative:i detect_positive:i",
    "LayerNormalization": "axis:i epsilon:f stash_type:i",
    "LeakyRelu": "alpha:f",
    "LogSoftmax": "axis:i",
    "MaxPool": f"{_WINDOW} ceil_mode:i dilations:ints storage_order:i",
    "Mod": "fmod:i",
    "OneHot": "axis:i",
    "Pad": "mode:s",
    "Reshape": "allowzero:i",
    "ScatterElements": "axis:i reduction:s",
    "Selu": "alpha:f gamma:f",
    "Shape": "end:i start:i",
    "Softmax": "axis:i",
    "SpaceToDepth": "blocksize:i",
    "Split": "axis:i num_outputs:i",
    "TopK": "axis:i largest:i sorted:i",
    "Transpose": "perm:ints",
    # Axes were an attribute until operator set 18.
    **dict.fromkeys(_REDUCTIONS, "axes:ints keepdims:i noop_with_empty_axes:i"),
}
_SIZES = {
    "ConstantOfShape": (0,),
    "CumSum": (1,),
    "Expand": (1,),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Reshape": (1,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Unsqueeze": (1,),
    **dict.fromkeys(_REDUCTIONS, (1,)),
}


def _operator(name: str) -> AllowedOperator:
    entries = [entry.split(":") for entry in _ATTRIBUTES.get(name, "").split()]
    attributes = {entry[0]: entry[1] for entry in entries}
    return AllowedOperator(*_ARITY[name], attributes, frozenset(_SIZES.get(name, ())))


OPERATORS: Mapping[str, AllowedOperator] = {
    name: _operator(name) for name in sorted(_ARITY)
}
"""The allow-list."""
