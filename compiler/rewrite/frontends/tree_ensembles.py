"""Ensembles of trees, written in standard operators as a front that stays as it is.

All trees are walked at once, one level at a time: each example has one place in each
tree, and a table says where it goes from there. A leaf leads to itself, so that after
as many steps as the deepest tree has levels all places are leaves.

Letters: n examples, t trees, m nodes of all trees, c scores.

Source: the operators TreeEnsembleClassifier and TreeEnsembleRegressor of ai.onnx.ml.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from starling.compiler.rewrite.frontends.node_writer import (
    Numbers,
    Writer,
    called,
    refused,
)

DEPTH_MAX = 64
"""Levels; each is eight nodes of the graph."""
VALUES_MAX = 1 << 24
"""Of the table of all leaves: 64 MiB."""
_MODES = {
    b"BRANCH_LEQ": "LessOrEqual",
    b"BRANCH_LT": "Less",
    b"BRANCH_GTE": "GreaterOrEqual",
    b"BRANCH_GT": "Greater",
    b"BRANCH_EQ": "Equal",
}
Whole = NDArray[np.int64]


@dataclass(frozen=True)
class _Forest:
    """Tables of all nodes, one behind the other.

    Attributes:
      roots: (t,) first node of each tree.
      features: (m,) which column a node looks at.
      bounds: (m,) what it compares with.
      yes: (m,) where it leads if the comparison holds.
      no: (m,) where it leads if not.
      depth: Levels below the roots.
      operator: The comparison.
      place: Of each pair of tree and node.
    """

    roots: Whole
    features: Whole
    bounds: NDArray[np.float32]
    yes: Whole
    no: Whole
    depth: int
    operator: str
    place: dict[tuple[int, int], int]


def regressor(writer: Writer, node: onnx.NodeProto, numbers: Numbers) -> None:
    """TreeEnsembleRegressor: a sum, mean, least or largest value over all trees."""
    forest = _forest(node, numbers)
    values = _values(forest, numbers, "target", int(numbers.get("n_targets", 1)))
    how = bytes(numbers.get("aggregate_function", b"SUM"))
    kinds = {b"MAX": "ReduceMax", b"MIN": "ReduceMin", b"SUM": "ReduceSum"}
    kinds[b"AVERAGE"] = "ReduceMean"
    if numbers.get("post_transform", b"NONE") != b"NONE" or how not in kinds:
        raise refused(node, "is no plain regression")
    scores = _scores(writer, node, forest, values, kinds[how])
    writer.node("Add", [scores, _base(writer, node, numbers)], node.output[0])


def classifier(writer: Writer, node: onnx.NodeProto, numbers: Numbers) -> None:
    """TreeEnsembleClassifier: a score for each class."""
    name, forest = called(node), _forest(node, numbers)
    labels = numbers.get("classlabels_int64s") or numbers.get("classlabels_strings")
    classes = len(labels or [])
    how = bytes(numbers.get("post_transform", b"NONE"))
    used = {*numbers["class_ids"]}
    # Such a file keeps one score for two classes; which pair it stands for follows from
    # the weights.
    binary = classes == 2 and len(used) == 1
    values = _values(forest, numbers, "class", 1 if binary else classes)
    scores = _scores(writer, node, forest, values, "ReduceSum")
    total = writer.node("Add", [scores, _base(writer, node, numbers)], f"{name}/total")
    shares = binary and min(numbers["class_weights"]) >= 0 and how == b"NONE"
    if shares:
        one = writer.real(f"{name}/one", 1.0)
        rest = writer.node("Sub", [one, total], f"{name}/rest")
        total = writer.node("Concat", [rest, total], f"{name}/both", axis=1)
    elif binary:
        signs = writer.constant(f"{name}/signs", np.array([[-1.0, 1.0]], np.float32))
        total = writer.node("Mul", [total, signs], f"{name}/both")
    kinds = {b"LOGISTIC": "Sigmoid", b"NONE": "Identity", b"SOFTMAX": "Softmax"}
    if how not in kinds:
        raise refused(node, f"ends in {how[:20]!r}")
    writer.node(kinds[how], [total], node.output[1])


def _forest(node: onnx.NodeProto, numbers: Numbers) -> _Forest:
    keys = list(zip(numbers["nodes_treeids"], numbers["nodes_nodeids"], strict=True))
    place = {key: index for index, key in enumerate(keys)}
    modes = numbers["nodes_modes"]
    kinds = {mode for mode in modes if mode != b"LEAF"} or {b"BRANCH_LEQ"}
    tracks = any(numbers.get("nodes_missing_value_tracks_true", []))
    # All trees take their step at once, so that one comparison has to do for all nodes.
    if len(kinds) > 1 or not kinds <= _MODES.keys() or tracks:
        raise refused(node, "compares in several ways, or where values are missing")
    own = np.arange(len(keys), dtype=np.int64)
    # Leaves lead to themselves, so that short trees wait for the deepest one.
    yes, no = own.copy(), own.copy()
    sides = (numbers["nodes_truenodeids"], numbers["nodes_falsenodeids"])
    for index, (tree, _) in enumerate(keys):
        if modes[index] != b"LEAF":
            try:
                yes[index], no[index] = [place[tree, side[index]] for side in sides]
            except KeyError as error:
                raise refused(node, "leads to a node that is not there") from error
    trees: dict[int, int] = {}
    for index, (tree, _) in enumerate(keys):
        trees.setdefault(tree, index)
    roots = np.array(list(trees.values()), np.int64)
    bounds = np.array(numbers["nodes_values"], np.float32)
    features = np.array(numbers["nodes_featureids"], np.int64)
    depth = _depth(node, roots, yes, no)
    operator = _MODES[kinds.pop()]
    return _Forest(roots, features, bounds, yes, no, depth, operator, place)


def _depth(node: onnx.NodeProto, roots: Whole, yes: Whole, no: Whole) -> int:
    reached = roots
    for depth in range(DEPTH_MAX + 1):
        if (yes[reached] == reached).all() and (no[reached] == reached).all():
            return depth
        # A circle never comes to rest, and ends at the bound.
        reached = np.union1d(yes[reached], no[reached])
    raise refused(node, f"has more than {DEPTH_MAX} levels")


def _values(
    forest: _Forest, numbers: Numbers, side: str, width: int
) -> NDArray[np.float32]:
    """(m, c): what each leaf adds to the scores.

    Raises:
      ValueError: If the table would be larger than `VALUES_MAX`.
    """
    if not 0 < width * len(forest.features) <= VALUES_MAX:
        raise ValueError(f"a table of {len(forest.features)} times {width} scores")
    found = np.zeros((len(forest.features), width), np.float32)
    columns = zip(
        numbers[f"{side}_treeids"],
        numbers[f"{side}_nodeids"],
        numbers[f"{side}_ids"],
        numbers[f"{side}_weights"],
        strict=True,
    )
    for tree, leaf, score, weight in columns:
        # Added up, as a leaf may be listed several times for one score.
        found[forest.place[tree, leaf], score if width > 1 else 0] += weight
    return found


def _base(writer: Writer, node: onnx.NodeProto, numbers: Numbers) -> str:
    base = np.array(numbers.get("base_values", [0.0]), np.float32)
    return writer.constant(f"{called(node)}/base", base)


def _scores(
    writer: Writer,
    node: onnx.NodeProto,
    forest: _Forest,
    values: NDArray[np.float32],
    kind: str,
) -> str:
    """(n, c): over all trees, by a reduction."""
    name = called(node)
    x = writer.cast(node.input[0], f"{name}/real")
    tables = {
        key: writer.constant(f"{name}/{key}", array)
        for key, array in (
            ("features", forest.features),
            ("bounds", forest.bounds),
            ("yes", forest.yes),
            ("no", forest.no),
            ("values", values),
        )
    }
    place = _start(writer, name, x, forest.roots)
    for level in range(forest.depth):
        step = f"{name}/{level}"
        found = {
            key: writer.node("Gather", [tables[key], place], f"{step}/{key}")
            for key in ("features", "bounds", "yes", "no")
        }
        value = writer.node(
            "GatherElements", [x, found["features"]], f"{step}/value", axis=1
        )
        holds = writer.node(forest.operator, [value, found["bounds"]], f"{step}/holds")
        place = writer.node(
            "Where", [holds, found["yes"], found["no"]], f"{step}/place"
        )
    leaves = writer.node("Gather", [tables["values"], place], f"{name}/leaves")
    axis = writer.whole(f"{name}/trees", [1])
    return writer.node(kind, [leaves, axis], f"{name}/scores", keepdims=0)


def _start(writer: Writer, name: str, x: str, roots: Whole) -> str:
    """(n, t): the roots, for each example."""
    # The number of rows is read from x, so that the batch stays free.
    size = writer.node("Shape", [x], f"{name}/size")
    first, last = [writer.whole(f"{name}/{k}", [k]) for k in (0, 1)]
    rows = writer.node("Slice", [size, first, last], f"{name}/rows")
    trees = writer.whole(f"{name}/count", [len(roots)])
    shape = writer.node("Concat", [rows, trees], f"{name}/shape", axis=0)
    start = writer.constant(f"{name}/roots", roots.reshape(1, -1))
    return writer.node("Expand", [start, shape], f"{name}/start")
