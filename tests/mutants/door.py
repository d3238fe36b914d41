"""Planted bugs in the door to ONNX Runtime (`engine/`) and in who goes through it."""

from tests.mutants.mutant import Mutant

_READING = ("tests/unit/engine/test_reading.py",)
_CHECKING = ("tests/unit/engine/test_checking.py",)
_BUNDLE = ("tests/unit/engine/test_bundle.py",)
_ARRAYS = ("tests/unit/engine/test_arrays.py",)
_ORT = ("tests/unit/engine/test_ort.py",)
_BOARD = ("tests/contract/test_door.py",)
_FLOW = ("tests/unit/engine/test_flow.py",)
_VOUCHING = ("tests/unit/coordinator/test_vouching.py",)
_EVALUATOR = ("tests/unit/coordinator/test_evaluator.py",)

DOOR = (
    Mutant(
        "of a tag 32 bits count",
        "engine/wire.py",
        "number, wire = key >> 3, key & 7",
        "number, wire = key >> 3 & FIELD_NUMBER_MAX, key & 7",
        _READING,
    ),
    Mutant(
        "a field may stand twice",
        "engine/wire.py",
        "if field.name in found.values and not field.repeated:",
        "if field.name == '':",
        _READING,
    ),
    Mutant(
        "a number may have more bytes than it needs",
        "engine/wire.py",
        "if (byte == 0 and shift) or value >> 64:",
        "if value >> 64:",
        _READING,
    ),
    Mutant(
        "a node may name another domain",
        "engine/reading.py",
        '    _check_domain(found)\n    operator = found.one("op_type", str)',
        '    operator = found.one("op_type", str)',
        _READING,
    ),
    Mutant(
        "sizes may follow from data",
        "engine/checking.py",
        "    flow.check_sizes(graph)\n",
        "",
        _CHECKING,
    ),
    Mutant(
        "theta counts as a constant",
        "engine/flow.py",
        "{port.name: Value(Source.DATA, port.type) for port in graph.inputs}",
        "{port.name: Value(Source(2 * (port.name != 'theta')), port.type) "
        "for port in graph.inputs}",
        _CHECKING,
    ),
    Mutant(
        "whole numbers are divided by anything",
        "engine/flow.py",
        "        _check_division(node, read, divisors)\n",
        "",
        _CHECKING,
    ),
    Mutant(
        "any number of sizes",
        "engine/flow.py",
        "SIZES_MAX = 2 * RANK_MAX",
        "SIZES_MAX = 4096",
        _FLOW,
    ),
    Mutant(
        "a constant read for each division",
        "engine/flow.py",
        "        if name not in self._known:\n",
        "        if name:\n",
        _FLOW,
    ),
    Mutant(
        "an unforeseen bundle ends the coordinator",
        "coordinator/vouching.py",
        "    except Exception as error:",
        "    except ArithmeticError as error:",
        _VOUCHING,
    ),
    Mutant(
        "operators off the list are run",
        "engine/checking.py",
        "    if operator is None:\n",
        "    if operator is None:\n        return\n    if operator is None:\n",
        _CHECKING,
    ),
    Mutant(
        "ports are not compared with the manifest",
        "engine/bundle.py",
        "        _check_input(name, port, _expected(key, manifest))",
        "        _expected(key, manifest)",
        _BUNDLE,
    ),
    Mutant(
        "parameters may be no numbers",
        "engine/arrays.py",
        "if not np.isfinite(values).all():",
        "if np.isfinite(values).sum() < 0:",
        _ARRAYS,
    ),
    Mutant(
        "a session takes graphs that nobody checked",
        "engine/rim/ort.py",
        "    check_graph(graph)\n",
        "",
        _ORT,
    ),
    Mutant(
        "the runtime's own exceptions pass",
        "engine/rim/ort.py",
        "    *_OWN_KINDS,\n",
        "",
        _ORT,
    ),
    Mutant(
        "telemetry is on",
        "engine/rim/ort.py",
        'os.environ["ORT_DISABLE_TELEMETRY"] = "1"\n',
        "",
        _BOARD,
    ),
    Mutant(
        "a coordinator votes for a task without looking at its bundle",
        "coordinator/vouching.py",
        "    if is_sound(turn, *key):\n",
        "    if spec:\n",
        _VOUCHING,
    ),
    Mutant(
        "a faulty bundle passes",
        "coordinator/vouching.py",
        "    if known.fault:\n        return known.fault\n",
        "",
        _VOUCHING,
    ),
)
