"""Gradient rules: the forward and backward form of each operator, one rule each.

`RULES` is the whole truth about what compiles; a rule is added by one line there and a
function in the file of its family. `FUSED` holds rules of nodes that only the compiler
makes, out of several of the model.
"""

from onnx import TensorProto

from starling.compiler.autodiff.rules import (
    activation,
    einsum,
    elementwise,
    folded_batch,
    indexing,
    math_functions,
    matrix_product,
    reduction,
    resampling,
    shape_operators,
    slicing,
    trigonometric,
)
from starling.compiler.autodiff.rules.convolution import (
    conv_transpose,
    convolution,
    norm_pooling,
    pooling,
)
from starling.compiler.autodiff.rules.gradient_rule import GradientRule
from starling.compiler.autodiff.rules.normalisation import batch_norm, layer_norm
from starling.compiler.autodiff.rules.recurrence import recurrent_layers
from starling.compiler.autodiff.tape import Tape
from starling.compiler.ir.network import NetworkNode
from starling.compiler.rewrite.operator_fusion import HELD, POOLED

RULES: dict[str, GradientRule] = {
    "Abs": GradientRule(activation.absolute),
    "Acos": GradientRule(trigonometric.arc_cosine),
    "Acosh": GradientRule(trigonometric.area_cosine),
    "Add": GradientRule(elementwise.add, trainable=(0, 1)),
    "And": GradientRule(math_functions.nothing),
    "ArgMax": GradientRule(math_functions.nothing, reduction.place_forward),
    "ArgMin": GradientRule(math_functions.nothing, reduction.place_forward),
    "Asin": GradientRule(trigonometric.arc_sine),
    "Asinh": GradientRule(trigonometric.area_sine),
    "Atan": GradientRule(trigonometric.arc_tangent),
    "Atanh": GradientRule(trigonometric.area_tangent),
    "AveragePool": GradientRule(pooling.average, pooling.forward),
    "BatchNormalization": GradientRule(
        batch_norm.batch, batch_norm.batch_forward, trainable=(1, 2)
    ),
    "Cast": GradientRule(math_functions.cast, math_functions.cast_forward),
    "Ceil": GradientRule(math_functions.nothing),
    "Celu": GradientRule(activation.celu, activation.celu_forward),
    "Clip": GradientRule(activation.clip),
    "Concat": GradientRule(shape_operators.concat, shape_operators.concat_forward),
    "Conv": GradientRule(convolution.backward, convolution.forward, trainable=(1, 2)),
    "ConvTranspose": GradientRule(
        conv_transpose.backward, conv_transpose.forward, trainable=(1, 2)
    ),
    "Cos": GradientRule(math_functions.cosine),
    "Cosh": GradientRule(trigonometric.hyperbolic_cosine),
    "CumSum": GradientRule(indexing.cumulative, indexing.cumulative_forward),
    "DepthToSpace": GradientRule(
        resampling.depth_to_space, resampling.depth_to_space_forward
    ),
    "Div": GradientRule(elementwise.divide, trainable=(0, 1)),
    "Dropout": GradientRule(shape_operators.identity, batch_norm.dropout_forward),
    "Einsum": GradientRule(einsum.backward, einsum.forward, trainable=(0, 1, 2, 3)),
    "Elu": GradientRule(activation.elu),
    "Equal": GradientRule(math_functions.nothing),
    "Erf": GradientRule(math_functions.error_function),
    "Exp": GradientRule(activation.exponential),
    "Expand": GradientRule(slicing.expand, slicing.expand_forward, trainable=(0,)),
    "Flatten": GradientRule(shape_operators.reshape, shape_operators.reshape_forward),
    "Floor": GradientRule(math_functions.nothing),
    "GRU": GradientRule(
        recurrent_layers.backward, recurrent_layers.forward, trainable=(1, 2, 3, 5)
    ),
    "Gather": GradientRule(slicing.gather, slicing.gather_forward, trainable=(0,)),
    "GatherElements": GradientRule(
        indexing.gather_elements, indexing.gather_elements_forward
    ),
    "Gelu": GradientRule(activation.gelu, activation.gelu_forward),
    "Gemm": GradientRule(
        matrix_product.gemm, matrix_product.gemm_forward, trainable=(1, 2)
    ),
    "GlobalAveragePool": GradientRule(pooling.global_average),
    "GlobalLpPool": GradientRule(
        norm_pooling.global_backward, norm_pooling.global_forward
    ),
    "GlobalMaxPool": GradientRule(pooling.global_maximum),
    "Greater": GradientRule(math_functions.nothing),
    "GreaterOrEqual": GradientRule(math_functions.nothing),
    "GroupNormalization": GradientRule(
        layer_norm.group, layer_norm.group_forward, trainable=(1, 2)
    ),
    "HardSigmoid": GradientRule(activation.hard_sigmoid),
    "HardSwish": GradientRule(activation.hard_swish),
    "Hardmax": GradientRule(math_functions.nothing, reduction.hardmax_forward),
    "Identity": GradientRule(shape_operators.identity),
    "InstanceNormalization": GradientRule(
        layer_norm.group, layer_norm.group_forward, trainable=(1, 2)
    ),
    "IsInf": GradientRule(math_functions.nothing),
    "IsNaN": GradientRule(math_functions.nothing),
    "LSTM": GradientRule(
        recurrent_layers.backward, recurrent_layers.forward, trainable=(1, 2, 3, 5, 6)
    ),
    "LayerNormalization": GradientRule(
        layer_norm.layer, layer_norm.layer_forward, trainable=(1, 2)
    ),
    "LeakyRelu": GradientRule(activation.leaky_relu),
    "Less": GradientRule(math_functions.nothing),
    "LessOrEqual": GradientRule(math_functions.nothing),
    "Log": GradientRule(activation.logarithm),
    "LogSoftmax": GradientRule(activation.log_softmax, activation.softmax_forward),
    "LpNormalization": GradientRule(reduction.norm, reduction.norm_forward),
    "LpPool": GradientRule(norm_pooling.backward, norm_pooling.forward),
    "MatMul": GradientRule(matrix_product.matmul, trainable=(0, 1)),
    "Max": GradientRule(math_functions.extreme),
    "MaxPool": GradientRule(pooling.maximum, pooling.forward),
    "MaxUnpool": GradientRule(pooling.unpool, pooling.unpool_forward),
    "Mean": GradientRule(elementwise.mean, elementwise.mean_forward),
    "Min": GradientRule(math_functions.extreme),
    "Mish": GradientRule(activation.mish, activation.mish_forward),
    "Mod": GradientRule(math_functions.remainder, math_functions.remainder_forward),
    "Mul": GradientRule(elementwise.multiply, trainable=(0, 1)),
    "Neg": GradientRule(activation.negate),
    "Not": GradientRule(math_functions.nothing),
    "OneHot": GradientRule(math_functions.nothing),
    "Or": GradientRule(math_functions.nothing),
    "PRelu": GradientRule(activation.prelu, trainable=(1,)),
    "Pad": GradientRule(slicing.pad_backward, slicing.pad_forward),
    "Pow": GradientRule(math_functions.power, math_functions.power_forward),
    "RNN": GradientRule(
        recurrent_layers.backward, recurrent_layers.forward, trainable=(1, 2, 3, 5)
    ),
    "Reciprocal": GradientRule(math_functions.reciprocal),
    "ReduceL1": GradientRule(reduction.absolute, reduction.absolute_forward),
    "ReduceL2": GradientRule(
        shape_operators.reduce_squares, shape_operators.reduce_forward
    ),
    "ReduceLogSum": GradientRule(reduction.logarithm, reduction.logarithm_forward),
    "ReduceLogSumExp": GradientRule(
        shape_operators.reduce_exponentials, shape_operators.reduce_forward
    ),
    "ReduceMax": GradientRule(
        shape_operators.reduce_extreme, shape_operators.reduce_forward
    ),
    "ReduceMean": GradientRule(shape_operators.reduce, shape_operators.reduce_forward),
    "ReduceMin": GradientRule(
        shape_operators.reduce_extreme, shape_operators.reduce_forward
    ),
    "ReduceProd": GradientRule(reduction.product, shape_operators.reduce_forward),
    "ReduceSum": GradientRule(shape_operators.reduce, shape_operators.reduce_forward),
    "ReduceSumSquare": GradientRule(
        shape_operators.reduce_squares, shape_operators.reduce_forward
    ),
    "Relu": GradientRule(activation.relu),
    "Reshape": GradientRule(shape_operators.reshape, shape_operators.reshape_forward),
    "Resize": GradientRule(resampling.resize, resampling.resize_forward),
    "Round": GradientRule(math_functions.nothing),
    "ScatterElements": GradientRule(
        indexing.scatter_elements, indexing.scatter_elements_forward
    ),
    "Selu": GradientRule(activation.selu),
    "Shrink": GradientRule(activation.shrink, activation.shrink_forward),
    "Sigmoid": GradientRule(activation.sigmoid),
    "Sign": GradientRule(math_functions.nothing),
    "Sin": GradientRule(math_functions.sine),
    "Sinh": GradientRule(trigonometric.hyperbolic_sine),
    "Slice": GradientRule(slicing.slice_backward, slicing.slice_forward),
    "Softmax": GradientRule(activation.softmax, activation.softmax_forward),
    "Softplus": GradientRule(activation.softplus),
    "Softsign": GradientRule(activation.softsign),
    "SpaceToDepth": GradientRule(
        resampling.space_to_depth, resampling.depth_to_space_forward
    ),
    "Split": GradientRule(slicing.split_backward, slicing.split_forward),
    "Sqrt": GradientRule(activation.square_root),
    "Squeeze": GradientRule(shape_operators.reshape, shape_operators.reshape_forward),
    "Sub": GradientRule(elementwise.subtract, trainable=(0, 1)),
    "Sum": GradientRule(elementwise.total),
    "Swish": GradientRule(activation.swish, activation.swish_forward),
    "Tan": GradientRule(trigonometric.tangent),
    "Tanh": GradientRule(activation.tanh),
    "ThresholdedRelu": GradientRule(
        activation.thresholded, activation.thresholded_forward
    ),
    "Tile": GradientRule(slicing.tile, slicing.tile_forward, trainable=(0,)),
    "TopK": GradientRule(indexing.top, indexing.top_forward),
    "Transpose": GradientRule(
        shape_operators.transpose, shape_operators.transpose_forward
    ),
    "Trilu": GradientRule(shape_operators.triangle, shape_operators.triangle_forward),
    "Unsqueeze": GradientRule(shape_operators.reshape, shape_operators.reshape_forward),
    "Where": GradientRule(math_functions.where),
    "Xor": GradientRule(math_functions.nothing, math_functions.exclusive_forward),
}

FUSED: dict[str, GradientRule] = {
    HELD: GradientRule(math_functions.nothing, elementwise.held_forward),
    POOLED: GradientRule(convolution.pooled_backward, convolution.pooled_forward),
}


def rule(kind: str) -> GradientRule:
    """The rule of a node's kind, which has one."""
    return RULES[kind] if kind in RULES else FUSED[kind]


def write(tape: Tape, node: NetworkNode) -> None:
    """Writes a node."""
    # One place for parts of examples in the batch axis, so that no rule has to know of
    # them.
    step = rule(node.kind).forward
    if node.fold:
        folded_batch.forward(step, tape, node)
    else:
        step(tape, node)


def write_back(tape: Tape, node: NetworkNode) -> None:
    """Writes the way back through a node."""
    step = rule(node.kind).backward
    if node.fold:
        folded_batch.backward(step, tape, node)
    else:
        step(tape, node)


def sloped(node: NetworkNode) -> tuple[str, ...]:
    """The outputs of a node that may have a slope: all but places."""
    if steps(node):
        return ()
    return node.outputs[:1] if node.kind in ("MaxPool", "TopK") else node.outputs


def steps(node: NetworkNode) -> bool:
    """True if a node's outputs have slope zero everywhere: comparisons, integers."""
    whole = node.kind == "Cast" and node.attributes["to"] != TensorProto.FLOAT
    # Without fmod the operator takes whole numbers alone.
    whole = whole or (node.kind == "Mod" and not node.attributes.get("fmod", 0))
    return whole or rule(node.kind).backward is math_functions.nothing
