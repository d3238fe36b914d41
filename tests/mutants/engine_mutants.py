"""Planted bugs in the door to ONNX Runtime (`engine/`) and in who goes through it."""

from tests.mutants.mutant import Mutant

_READING = ("tests/unit/engine/test_onnx_reader.py",)
_WIRE = ("tests/unit/engine/test_protobuf_wire.py",)
_BESIDE = ("tests/unit/engine/test_tensors_beside_the_model.py",)
_CHECKING = ("tests/unit/engine/test_graph_check.py",)
_BUNDLE = ("tests/unit/engine/test_opened_bundle.py",)
_ARRAYS = ("tests/unit/engine/test_npy_vector.py",)
_ORT = ("tests/unit/engine/runtime/test_onnxruntime_session.py",)
_BOARD = ("tests/contract/trainer/test_refused_graphs.py",)
_FLOW = ("tests/unit/engine/test_taint_analysis.py",)
_VOUCHING = ("tests/unit/coordinator/availability/test_bundle_examination.py",)
_EVALUATOR = ("tests/unit/coordinator/runtime/evaluation/test_evaluator.py",)

DOOR = (
    Mutant(
        "of a tag 32 bits count",
        "engine/protobuf_wire.py",
        "known = form.get(key >> 3)",
        "known = form.get(key >> 3 & (1 << 29) - 1)",
        _WIRE,
    ),
    Mutant(
        "a field may stand twice",
        "engine/protobuf_wire.py",
        "elif known.repeated:",
        "elif known.name:",
        _WIRE,
    ),
    Mutant(
        "a number may have more bytes than it needs",
        "engine/protobuf_wire.py",
        "if (byte == 0 and shift) or value >> 64:",
        "if value >> 64:",
        _WIRE,
    ),
    Mutant(
        "a node may name another domain",
        "engine/onnx_reader.py",
        '    _check_domain(found)\n    operator = found.one("op_type", str)',
        '    operator = found.one("op_type", str)',
        _READING,
    ),
    Mutant(
        "a tensor may stand in any file",
        "engine/onnx_reader.py",
        'keys != EXTERNAL_KEYS or entries[0].one("value", str) != CONSTANTS',
        "keys != EXTERNAL_KEYS",
        _BESIDE,
    ),
    Mutant(
        "sizes may follow from data",
        "engine/graph_check.py",
        "    taint_analysis.check_sizes(graph)\n",
        "",
        _CHECKING,
    ),
    Mutant(
        "theta counts as a constant",
        "engine/taint_analysis.py",
        "port.name: TracedValue(ValueSource.DATA, port.type) for port in graph.inputs",
        "port.name: TracedValue(ValueSource(2 * (port.name != 'theta')), port.type) "
        "for port in graph.inputs",
        _CHECKING,
    ),
    Mutant(
        "whole numbers are divided by anything",
        "engine/taint_analysis.py",
        "        _check_division(node, read, divisors)\n",
        "",
        _CHECKING,
    ),
    Mutant(
        "any number of sizes",
        "engine/taint_analysis.py",
        "SIZES_MAX = 2 * RANK_MAX",
        "SIZES_MAX = 4096",
        _FLOW,
    ),
    Mutant(
        "a constant read for each division",
        "engine/taint_analysis.py",
        "        if name not in self._known:\n",
        "        if name:\n",
        _FLOW,
    ),
    Mutant(
        "an unforeseen bundle ends the coordinator",
        "coordinator/availability/bundle_examination.py",
        "    except Exception as error:",
        "    except ArithmeticError as error:",
        _VOUCHING,
    ),
    Mutant(
        "operators off the list are run",
        "engine/graph_check.py",
        "    if operator is None:\n",
        "    if operator is None:\n        return\n    if operator is None:\n",
        _CHECKING,
    ),
    Mutant(
        "ports are not compared with the manifest",
        "engine/opened_bundle.py",
        "        _check_input(name, port, _expected(key, manifest))",
        "        _expected(key, manifest)",
        _BUNDLE,
    ),
    Mutant(
        "parameters may be no numbers",
        "engine/npy_vector.py",
        "if not np.isfinite(values).all():",
        "if np.isfinite(values).sum() < 0:",
        _ARRAYS,
    ),
    Mutant(
        "a session takes graphs that nobody checked",
        "engine/runtime/onnxruntime_session.py",
        "    check_graph(graph)\n",
        "",
        _ORT,
    ),
    Mutant(
        "the runtime's own exceptions pass",
        "engine/runtime/onnxruntime_session.py",
        "    *_OWN_KINDS,\n",
        "",
        _ORT,
    ),
    Mutant(
        "telemetry is on",
        "engine/runtime/onnxruntime_session.py",
        'os.environ["ORT_DISABLE_TELEMETRY"] = "1"\n',
        "",
        _BOARD,
    ),
    Mutant(
        "a coordinator votes for a task without looking at its bundle",
        "coordinator/availability/bundle_examination.py",
        "    if is_sound(step, *key):\n",
        "    if spec:\n",
        _VOUCHING,
    ),
    Mutant(
        "a faulty bundle passes",
        "coordinator/availability/bundle_examination.py",
        "    if known.fault:\n        return known.fault\n",
        "",
        _VOUCHING,
    ),
)
