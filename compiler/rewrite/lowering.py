"""Nodes of other toolkits become standard ones, before anything is checked.

skl2onnx writes its steps as operators of a domain of their own, two-class networks
as a probability and its rest, and beside the probabilities a label that nothing can be
trained by. tf2onnx leaves an operator that ONNX does not know. Linear models are here,
other steps in `sklearn_columns`, `support_vector_machines` and `tree_ensembles`.

Source: the operators of the domain ai.onnx.ml, version 1 to 5.
"""

import re
from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from starling.compiler.errors import CompileError
from starling.compiler.rewrite.frontends import (
    sklearn_columns,
    support_vector_machines,
    tree_ensembles,
)
from starling.compiler.rewrite.frontends.node_writer import (
    Numbers,
    Writer,
    contents,
    default_opset,
    typed,
    well_formed,
)

_DOMAIN = "ai.onnx.ml"
_PRODUCER = "skl2onnx"
_LABELS = frozenset({TensorProto.INT64, TensorProto.INT32, TensorProto.STRING})


_Lower = Callable[[Writer, onnx.NodeProto, Numbers], None]


def lowered(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same model in standard operators, as far as they are known here.

    Args:
      proto: Of checked form, which is not changed.

    Raises:
      CompileError: If a linear model makes its probabilities in another way than
        softmax, or the sigmoid of two classes.
    """
    graph = proto.graph
    foreign = any(node.domain == _DOMAIN or _known(node) for node in graph.node)
    if not foreign and not _labelled(graph) and proto.producer_name != _PRODUCER:
        return proto
    found = onnx.ModelProto()
    found.CopyFrom(proto)
    del found.graph.node[:]
    writer = Writer(found.graph, _kinds(proto), default_opset(proto))
    renamed: dict[str, str] = {}
    # What leads to labels alone goes first: it is often text, which would be refused.
    for node in _leading(proto):
        if node.op_type == "ZipMap":
            renamed[node.output[0]] = node.input[0]
        elif _known(node):
            attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            with well_formed(node):
                _LOWERED[node.op_type](writer, node, attributes)
        else:
            writer.nodes.append(node)
    ones = {
        item.name
        for item in graph.initializer
        if np.array_equal(contents(item).reshape(-1), [1.0])
    }
    _set_outputs(found, renamed)
    wanted = {output.name for output in found.graph.output}
    found.graph.node.extend(_live(_softmaxed(writer.nodes, ones), wanted))
    # Last, as the layers' names are those that lowering gives them.
    _fix_fronts(found)
    return found


_ESTIMATORS = re.compile(r"coef(ficient)?[0-9]*|.*\.weight")
"""Names of the matrices that scikit-learn's linear models and networks learned."""
_OFFSETS = re.compile(r"intercepts?[0-9]*|.*\.bias")


def estimated(name: str) -> bool:
    """True if a tensor of skl2onnx is what an estimator learned, by its name."""
    return bool(_ESTIMATORS.fullmatch(name) or _OFFSETS.fullmatch(name))


def _fix_fronts(proto: onnx.ModelProto) -> None:
    """Makes constants of what a pipeline's other steps learned, as of a scaler.

    They are what leads to a tensor with the name of an estimator's; where there is
    none, all stay as they are.
    """
    graph = proto.graph
    names = {item.name for item in graph.initializer}
    matrices = {name for name in names if _ESTIMATORS.fullmatch(name)}
    # The names mean this in skl2onnx's files alone.
    if proto.producer_name != _PRODUCER or not matrices:
        return
    layers = [node for node in graph.node if matrices.intersection(node.input)]
    ahead = {name for node in layers for name in node.input}
    read: set[str] = set()
    for node in _live(list(graph.node), set(ahead)):
        read.update(node.input)
    own = {name for name in names if _OFFSETS.fullmatch(name)} | matrices
    fixed = [item for item in graph.initializer if item.name in read - own]
    rest = [item for item in graph.initializer if item.name not in read - own]
    made = [
        helper.make_node("Constant", [], [item.name], item.name, value=item)
        for item in fixed
    ]
    nodes = list(graph.node)
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(rest)
    graph.node.extend([*made, *nodes])


def _labelled(graph: onnx.GraphProto) -> bool:
    """True if some outputs are labels, and others are not."""
    kinds = {item.type.tensor_type.elem_type in _LABELS for item in graph.output}
    return len(kinds) > 1


def _leading(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes that lead to what is kept: labels may be text, or looked up in it."""
    graph = proto.graph
    kinds = [item.type.tensor_type.elem_type for item in graph.output]
    kept = {
        item.name
        for item, kind in zip(graph.output, kinds, strict=True)
        if kind not in _LABELS
    }
    return _live(list(graph.node), kept or {item.name for item in graph.output})


def _kinds(proto: onnx.ModelProto) -> dict[str, int]:
    """Element types, as far as inference knows them."""
    graph = typed(proto).graph
    found = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for info in (*graph.input, *graph.value_info, *graph.output):
        found[info.name] = info.type.tensor_type.elem_type
    return found


def _live(nodes: list[onnx.NodeProto], wanted: set[str]) -> list[onnx.NodeProto]:
    """Without what only led to labels."""
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]


def _known(node: onnx.NodeProto) -> bool:
    if node.op_type == "Erfc":
        return not node.domain
    return node.domain == _DOMAIN and node.op_type in (*_LOWERED, "ZipMap")


def _set_outputs(proto: onnx.ModelProto, renamed: Mapping[str, str]) -> None:
    """Leaves out labels; maps of probabilities become the tensor that they hold."""
    outputs = []
    for output in proto.graph.output:
        if output.name in renamed:
            name = renamed[output.name]
            sizes = ["n", "classes"]
            outputs.append(
                helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)
            )
        elif output.type.tensor_type.elem_type not in _LABELS:
            outputs.append(output)
    if outputs:
        del proto.graph.output[:]
        proto.graph.output.extend(outputs)


def _linear(writer: Writer, name: str, x: str, numbers: Numbers) -> str:
    """X times coefficients, plus intercepts: (n, outputs)."""
    intercepts = np.array(numbers.get("intercepts", [0.0]), np.float32)
    table = np.array(numbers["coefficients"], np.float32)
    weight = table.reshape(intercepts.size, -1)
    names = [
        x,
        writer.weight(f"{name}.weight", weight),
        writer.weight(f"{name}.bias", intercepts),
    ]
    return writer.node("Gemm", names, f"{name}/scores", transB=1)


def _one_score(numbers: Numbers) -> Numbers | None:
    """The second of two rows if the first is its negative: one score was fitted."""
    intercepts = np.array(numbers.get("intercepts", []), np.float32)
    if intercepts.size != 2:
        return None
    table = np.array(numbers["coefficients"], np.float32).reshape(2, -1)
    # skl2onnx writes a logistic regression of two classes with both signs of the one
    # score.
    if (table[0] != -table[1]).any() or intercepts[0] != -intercepts[1]:
        return None
    return {"coefficients": table[1], "intercepts": intercepts[1:]}


def _classifier(writer: Writer, node: onnx.NodeProto, attributes: Numbers) -> None:
    how, name = attributes.get("post_transform", b"NONE"), node.name or node.output[1]
    classes = len(attributes.get("intercepts", []))
    one = _one_score(attributes) if how == b"LOGISTIC" else None
    if one is None and (how not in (b"NONE", b"SOFTMAX") or classes < 2):
        raise CompileError(
            f"{name} ({node.op_type}): scores of one class against the rest; train it "
            "as a multinomial model",
            (node.name,),
        )
    scores = _linear(writer, name, node.input[0], one or attributes)
    if one is not None:
        # The sigmoids of -z and z are the softmax of their halves.
        halves = writer.constant(f"{name}/halves", np.array([[-0.5, 0.5]], np.float32))
        scores = writer.node("Mul", [scores, halves], f"{name}/both")
    kind = "Identity" if how == b"NONE" else "Softmax"
    writer.node(kind, [scores], node.output[1])


def _regressor(writer: Writer, node: onnx.NodeProto, attributes: Numbers) -> None:
    name = node.name or node.output[0]
    scores = _linear(writer, name, node.input[0], attributes)
    writer.node("Identity", [scores], node.output[0])


def _complement(writer: Writer, node: onnx.NodeProto, attributes: Numbers) -> None:
    """Erfc is 1 - erf."""
    del attributes
    name = node.output[0]
    bent = writer.node("Erf", [node.input[0]], f"{name}/erf")
    one = writer.constant(f"{name}/one", np.array(1, np.float32))
    writer.node("Sub", [one, bent], name)


_LOWERED: Mapping[str, _Lower] = {
    "ArrayFeatureExtractor": sklearn_columns.feature_extractor,
    "Binarizer": sklearn_columns.binarizer,
    "CategoryMapper": sklearn_columns.text,
    "Erfc": _complement,
    "FeatureVectorizer": sklearn_columns.feature_vectorizer,
    "Imputer": sklearn_columns.imputer,
    "LabelEncoder": sklearn_columns.label_encoder,
    "LinearClassifier": _classifier,
    "LinearRegressor": _regressor,
    "Normalizer": sklearn_columns.normalizer,
    "OneHotEncoder": sklearn_columns.one_hot_encoder,
    "SVMClassifier": support_vector_machines.classifier,
    "SVMRegressor": support_vector_machines.regressor,
    "Scaler": sklearn_columns.scaler,
    "TreeEnsembleClassifier": tree_ensembles.classifier,
    "TreeEnsembleRegressor": tree_ensembles.regressor,
}


def _softmaxed(nodes: list[onnx.NodeProto], ones: set[str]) -> list[onnx.NodeProto]:
    """A probability p = sigmoid(z) beside 1 - p becomes the softmax of -z/2 and z/2."""
    made = {name: node for node in nodes for name in node.output}
    found = []
    for node in nodes:
        score = _two_classes(node, made, ones)
        if score is None:
            found.append(node)
            continue
        name = node.output[0]
        halves = numpy_helper.from_array(np.array([[-0.5, 0.5]], np.float32))
        found += [
            helper.make_node("Constant", [], [f"{name}/halves"], value=halves),
            helper.make_node("Mul", [score, f"{name}/halves"], [f"{name}/scores"]),
            helper.make_node("Softmax", [f"{name}/scores"], [name], axis=1),
        ]
    return found


def _two_classes(
    node: onnx.NodeProto, made: Mapping[str, onnx.NodeProto], ones: set[str]
) -> str | None:
    """The score z where a node joins 1 - sigmoid(z) and sigmoid(z)."""
    if node.op_type != "Concat" or len(node.input) != 2:
        return None
    rest, share = made.get(node.input[0]), made.get(node.input[1])
    if rest is None or share is None or share.op_type != "Sigmoid":
        return None
    same = rest.op_type == "Sub" and rest.input[1] == node.input[1]
    same = same and rest.input[0] in ones
    return str(share.input[0]) if same else None
