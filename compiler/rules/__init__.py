"""How each operator is written forward and differentiated: one rule per operator.

`RULES` is the whole truth about what compiles; a rule is added by one line there and a
function in the file of its family. `FUSED` holds rules of nodes that only the compiler
makes, out of several of the model.
"""

from onnx import TensorProto

from compiler.fusion import POOLED
from compiler.network import Node
from compiler.rules import (
    activation,
    convolution,
    einsum,
    elementwise,
    function,
    linear,
    normalisation,
    places,
    pooling,
    recurrent,
    resampling,
    selection,
    shape,
    standardisation,
    transposed,
)
from compiler.rules.rule import Rule

RULES: dict[str, Rule] = {
    "Abs": Rule(activation.absolute),
    "Add": Rule(elementwise.add, trainable=(0, 1)),
    "And": Rule(function.nothing),
    "AveragePool": Rule(pooling.average, pooling.forward),
    "BatchNormalization": Rule(
        normalisation.batch, normalisation.batch_forward, trainable=(1, 2)
    ),
    "Cast": Rule(function.cast, function.cast_forward),
    "Ceil": Rule(function.nothing),
    "Celu": Rule(activation.celu, activation.celu_forward),
    "Clip": Rule(activation.clip),
    "Concat": Rule(shape.concat, shape.concat_forward),
    "Conv": Rule(convolution.backward, convolution.forward, trainable=(1, 2)),
    "ConvTranspose": Rule(transposed.backward, transposed.forward, trainable=(1, 2)),
    "Cos": Rule(function.cosine),
    "CumSum": Rule(places.cumulative, places.cumulative_forward),
    "DepthToSpace": Rule(resampling.depth_to_space, resampling.depth_to_space_forward),
    "Div": Rule(elementwise.divide, trainable=(0, 1)),
    "Dropout": Rule(shape.identity, normalisation.dropout_forward),
    "Einsum": Rule(einsum.backward, einsum.forward, trainable=(0, 1)),
    "Elu": Rule(activation.elu),
    "Equal": Rule(function.nothing),
    "Erf": Rule(function.error_function),
    "Exp": Rule(activation.exponential),
    "Expand": Rule(selection.expand, selection.expand_forward, trainable=(0,)),
    "Flatten": Rule(shape.reshape, shape.reshape_forward),
    "Floor": Rule(function.nothing),
    "GRU": Rule(recurrent.backward, recurrent.forward, trainable=(1, 2, 3, 5)),
    "Gather": Rule(selection.gather, selection.gather_forward, trainable=(0,)),
    "GatherElements": Rule(places.gather_elements, places.gather_elements_forward),
    "Gelu": Rule(activation.gelu, activation.gelu_forward),
    "Gemm": Rule(linear.gemm, linear.gemm_forward, trainable=(1, 2)),
    "GlobalAveragePool": Rule(pooling.global_average),
    "GlobalMaxPool": Rule(pooling.global_maximum),
    "Greater": Rule(function.nothing),
    "GreaterOrEqual": Rule(function.nothing),
    "GroupNormalization": Rule(
        standardisation.group, standardisation.group_forward, trainable=(1, 2)
    ),
    "HardSigmoid": Rule(activation.hard_sigmoid),
    "HardSwish": Rule(activation.hard_swish),
    "Identity": Rule(shape.identity),
    "InstanceNormalization": Rule(
        standardisation.group, standardisation.group_forward, trainable=(1, 2)
    ),
    "IsInf": Rule(function.nothing),
    "IsNaN": Rule(function.nothing),
    "LSTM": Rule(recurrent.backward, recurrent.forward, trainable=(1, 2, 3, 5, 6)),
    "LayerNormalization": Rule(
        standardisation.layer, standardisation.layer_forward, trainable=(1, 2)
    ),
    "LeakyRelu": Rule(activation.leaky_relu),
    "Less": Rule(function.nothing),
    "LessOrEqual": Rule(function.nothing),
    "Log": Rule(activation.logarithm),
    "LogSoftmax": Rule(activation.log_softmax, activation.softmax_forward),
    "MatMul": Rule(linear.matmul, trainable=(0, 1)),
    "Max": Rule(function.extreme),
    "MaxPool": Rule(pooling.maximum, pooling.forward),
    "Min": Rule(function.extreme),
    "Mish": Rule(activation.mish, activation.mish_forward),
    "Mul": Rule(elementwise.multiply, trainable=(0, 1)),
    "Neg": Rule(activation.negate),
    "Not": Rule(function.nothing),
    "OneHot": Rule(function.nothing),
    "Or": Rule(function.nothing),
    "PRelu": Rule(activation.prelu, trainable=(1,)),
    "Pad": Rule(selection.pad_backward, selection.pad_forward),
    "Pow": Rule(function.power, function.power_forward),
    "RNN": Rule(recurrent.backward, recurrent.forward, trainable=(1, 2, 3, 5)),
    "Reciprocal": Rule(function.reciprocal),
    "ReduceL2": Rule(shape.reduce_squares, shape.reduce_forward),
    "ReduceLogSumExp": Rule(shape.reduce_exponentials, shape.reduce_forward),
    "ReduceMax": Rule(shape.reduce_extreme, shape.reduce_forward),
    "ReduceMean": Rule(shape.reduce, shape.reduce_forward),
    "ReduceMin": Rule(shape.reduce_extreme, shape.reduce_forward),
    "ReduceSum": Rule(shape.reduce, shape.reduce_forward),
    "ReduceSumSquare": Rule(shape.reduce_squares, shape.reduce_forward),
    "Relu": Rule(activation.relu),
    "Reshape": Rule(shape.reshape, shape.reshape_forward),
    "Resize": Rule(resampling.resize, resampling.resize_forward),
    "Round": Rule(function.nothing),
    "Selu": Rule(activation.selu),
    "Sigmoid": Rule(activation.sigmoid),
    "Sign": Rule(function.nothing),
    "Sin": Rule(function.sine),
    "Slice": Rule(selection.slice_backward, selection.slice_forward),
    "Softmax": Rule(activation.softmax, activation.softmax_forward),
    "Softplus": Rule(activation.softplus),
    "Softsign": Rule(activation.softsign),
    "SpaceToDepth": Rule(resampling.space_to_depth, resampling.depth_to_space_forward),
    "Split": Rule(selection.split_backward, selection.split_forward),
    "Sqrt": Rule(activation.square_root),
    "Squeeze": Rule(shape.reshape, shape.reshape_forward),
    "Sub": Rule(elementwise.subtract, trainable=(0, 1)),
    "Sum": Rule(elementwise.total),
    "Tanh": Rule(activation.tanh),
    "Tile": Rule(selection.tile, selection.tile_forward, trainable=(0,)),
    "TopK": Rule(places.top, places.top_forward),
    "Transpose": Rule(shape.transpose, shape.transpose_forward),
    "Unsqueeze": Rule(shape.reshape, shape.reshape_forward),
    "Where": Rule(function.where),
}

FUSED: dict[str, Rule] = {
    POOLED: Rule(convolution.pooled_backward, convolution.pooled_forward),
}


def rule(kind: str) -> Rule:
    """The rule of a node's kind, which has one."""
    return RULES[kind] if kind in RULES else FUSED[kind]


def steps(node: Node) -> bool:
    """Whether a node's outputs have no slope anywhere: comparisons, whole numbers."""
    whole = node.kind == "Cast" and node.attributes["to"] != TensorProto.FLOAT
    return whole or rule(node.kind).backward is function.nothing
