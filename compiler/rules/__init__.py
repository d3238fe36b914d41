"""How each operator is written forward and differentiated: one rule per operator.

`RULES` is the whole truth about what compiles; a rule is added by one line there and a
function in the file of its family. `FUSED` holds rules of nodes that only the compiler
makes, out of several of the model.
"""

from compiler.fusion import POOLED
from compiler.rules import (
    activation,
    convolution,
    elementwise,
    linear,
    normalisation,
    pooling,
    shape,
)
from compiler.rules.rule import Rule

RULES: dict[str, Rule] = {
    "Abs": Rule(activation.absolute),
    "Add": Rule(elementwise.add, trainable=(0, 1)),
    "AveragePool": Rule(pooling.average, pooling.forward),
    "BatchNormalization": Rule(
        normalisation.batch, normalisation.batch_forward, trainable=(1, 2)
    ),
    "Clip": Rule(activation.clip),
    "Concat": Rule(shape.concat, shape.concat_forward),
    "Conv": Rule(convolution.backward, convolution.forward, trainable=(1, 2)),
    "Div": Rule(elementwise.divide, trainable=(0, 1)),
    "Dropout": Rule(shape.identity, normalisation.dropout_forward),
    "Elu": Rule(activation.elu),
    "Exp": Rule(activation.exponential),
    "Flatten": Rule(shape.reshape, shape.reshape_forward),
    "Gemm": Rule(linear.gemm, linear.gemm_forward, trainable=(1, 2)),
    "GlobalAveragePool": Rule(pooling.global_average),
    "Identity": Rule(shape.identity),
    "LeakyRelu": Rule(activation.leaky_relu),
    "Log": Rule(activation.logarithm),
    "LogSoftmax": Rule(activation.log_softmax, activation.softmax_forward),
    "MatMul": Rule(linear.matmul, trainable=(0, 1)),
    "MaxPool": Rule(pooling.maximum, pooling.forward),
    "Mul": Rule(elementwise.multiply, trainable=(0, 1)),
    "Neg": Rule(activation.negate),
    "ReduceMean": Rule(shape.reduce, shape.reduce_forward),
    "ReduceSum": Rule(shape.reduce, shape.reduce_forward),
    "Relu": Rule(activation.relu),
    "Reshape": Rule(shape.reshape, shape.reshape_forward),
    "Sigmoid": Rule(activation.sigmoid),
    "Softmax": Rule(activation.softmax, activation.softmax_forward),
    "Softplus": Rule(activation.softplus),
    "Sqrt": Rule(activation.square_root),
    "Squeeze": Rule(shape.reshape, shape.reshape_forward),
    "Sub": Rule(elementwise.subtract, trainable=(0, 1)),
    "Tanh": Rule(activation.tanh),
    "Transpose": Rule(shape.transpose, shape.transpose_forward),
    "Unsqueeze": Rule(shape.reshape, shape.reshape_forward),
}

FUSED: dict[str, Rule] = {
    POOLED: Rule(convolution.pooled_backward, convolution.pooled_forward),
}


def rule(kind: str) -> Rule:
    """The rule of a node's kind, which has one."""
    return RULES[kind] if kind in RULES else FUSED[kind]
