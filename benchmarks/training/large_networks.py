"""Models of thousands of nodes: what makes a compiler slow."""

import numpy as np
import onnx

from benchmarks.training.networks import network_model, node

WIDTH, CLASSES = 8, 3
KINDS = ("Tanh", "Relu", "Sigmoid", "Softplus")
CHANNELS, HIDDEN = 9, 32


def elementwise_model(rng: np.random.Generator, nodes: int) -> onnx.ModelProto:
    """Functions of one value, one behind the other, between two layers."""
    made = [node("MatMul", ["x", "first"], ["e0"])]
    for place in range(nodes - 2):
        kind = KINDS[place % len(KINDS)]
        made.append(node(kind, [f"e{place}"], [f"e{place + 1}"]))
    made.append(node("MatMul", [f"e{nodes - 2}", "last"], ["out"]))
    shapes = {"first": (WIDTH, WIDTH), "last": (WIDTH, CLASSES)}
    return network_model(made, shapes, rng, (WIDTH,), CLASSES)


def deep_model(rng: np.random.Generator, layers: int) -> onnx.ModelProto:
    """Layers with a matrix and a bias each."""
    made, value = [], "x"
    shapes: dict[str, tuple[int, ...]] = {"last": (WIDTH, CLASSES)}
    for layer in range(layers):
        shapes |= {f"w{layer}": (WIDTH, WIDTH), f"b{layer}": (WIDTH,)}
        made += [
            node("MatMul", [value, f"w{layer}"], [f"m{layer}"]),
            node("Add", [f"m{layer}", f"b{layer}"], [f"a{layer}"]),
            node("Tanh", [f"a{layer}"], [f"t{layer}"]),
        ]
        value = f"t{layer}"
    made.append(node("MatMul", [value, "last"], ["out"]))
    return network_model(made, shapes, rng, (WIDTH,), CLASSES)


def lstm_model(rng: np.random.Generator, steps: int) -> onnx.ModelProto:
    """Two layers of LSTM over windows of sensor channels; the last state decides."""
    made = [
        node("Constant", [], ["direction"], value_ints=[1]),
        node("Constant", [], ["ends"], value_ints=[0]),
        node("Transpose", ["x"], ["v0"], perm=[1, 0, 2]),
    ]
    shapes: dict[str, tuple[int, ...]] = {"last": (HIDDEN, CLASSES)}
    for layer, width in enumerate((CHANNELS, HIDDEN)):
        shapes |= {
            f"w{layer}": (1, 4 * HIDDEN, width),
            f"r{layer}": (1, 4 * HIDDEN, HIDDEN),
            f"b{layer}": (1, 8 * HIDDEN),
        }
        read = [f"v{layer}", f"w{layer}", f"r{layer}", f"b{layer}"]
        # (steps, 1, n, hidden) and (1, n, hidden): one direction.
        states = [f"h{layer}", f"end{layer}"]
        made += [
            node("LSTM", read, states, hidden_size=HIDDEN),
            node("Squeeze", [states[0], "direction"], [f"v{layer + 1}"]),
        ]
    made += [
        node("Squeeze", ["end1", "ends"], ["state"]),
        node("MatMul", ["state", "last"], ["out"]),
    ]
    return network_model(made, shapes, rng, (steps, CHANNELS), CLASSES)
