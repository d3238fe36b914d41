"""What no engine runs, tried on the engine that boards have and on its real process."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from starling.agent import open_trainer
from starling.agent.training.trainer_messages import TrainerReportKind
from starling.protocol.errors import ProtocolError
from starling.protocol.ids import H
from starling.protocol.model.training_bundle import (
    CONTENT_FILES,
    EVALUATE,
    GRADIENT,
    INFER,
    MANIFEST,
    PRIVATE_GRADIENT,
    THETA,
    manifest_from_json,
    pack_bundle,
)
from tests.contract.trainer.asked_trainer import Process
from tests.contract.trainer.test_engines import FILES, order
from tests.unit.engine.small_graphs import bytes_field, number_field

GRAPHS = (EVALUATE, GRADIENT, INFER, PRIVATE_GRADIENT)
Hostile = Callable[[str], bytes]


def put(name: str, content: bytes) -> bytes:
    """The honest bundle with another file, and a manifest that stands by it."""
    files = {**FILES, name: content}
    manifest = manifest_from_json(files[MANIFEST])
    digests = {each: H(files[each]) for each in CONTENT_FILES}
    manifest = dataclasses.replace(manifest, digests=digests)
    return pack_bundle({**files, MANIFEST: manifest.to_json().encode()})


def edited(name: str, change: Callable[[onnx.ModelProto], object]) -> bytes:
    model = onnx.load_from_string(FILES[name])
    change(model)
    return put(name, model.SerializeToString())


def split_off(name: str) -> tuple[bytes, bytes, bytes]:
    """The model without its graph, the graph without its last node, and that node."""
    model = onnx.load_from_string(FILES[name])
    last = model.graph.node[-1].SerializeToString()
    del model.graph.node[-1]
    body = model.graph.SerializeToString()
    model.ClearField("graph")
    return model.SerializeToString(), body, last


def refused_operator(name: str) -> bytes:
    return edited(name, lambda m: setattr(m.graph.node[-1], "op_type", "Bernoulli"))


def hidden_operator(name: str, bit: int = 32) -> bytes:
    around, body, last = split_off(name)
    node = last + bytes_field(4, b"RandomNormalLike", bit)
    return put(name, around + bytes_field(7, body + bytes_field(1, node)))


def hidden_subgraph(name: str) -> bytes:
    around, body, last = split_off(name)
    branch = helper.make_graph([], "branch", [], []).SerializeToString()
    attribute = bytes_field(1, b"then_branch") + number_field(20, 5)
    node = last + bytes_field(5, attribute + bytes_field(6, branch, 35))
    return put(name, around + bytes_field(7, body + bytes_field(1, node)))


def operator_twice(name: str) -> bytes:
    around, body, last = split_off(name)
    node = last + bytes_field(4, b"RandomNormalLike")
    return put(name, around + bytes_field(7, body + bytes_field(1, node)))


def external_constant(name: str, *, bit: int | None = None) -> bytes:
    model = onnx.load_from_string(FILES[name])
    model_bytes = model.SerializeToString()
    entry = bytes_field(1, b"location") + bytes_field(2, b"etc/hostname")
    tensor = number_field(1, 1) + number_field(2, 7) + bytes_field(8, b"secret")
    tensor += bytes_field(13, entry, bit) + number_field(14, 1, bit)
    return put(name, model_bytes + bytes_field(7, bytes_field(5, tensor)))


def external_in_place(name: str) -> bytes:
    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="etc/hostname")

    return edited(name, change)


def function(name: str) -> bytes:
    def change(model: onnx.ModelProto) -> None:
        made = model.functions.add(name="Relu", domain="local")
        made.opset_import.add(domain="", version=18)

    return edited(name, change)


def other_domain(name: str) -> bytes:
    def change(model: onnx.ModelProto) -> None:
        model.opset_import.add(domain="com.microsoft", version=1)
        model.graph.node[-1].domain = "com.microsoft"

    return edited(name, change)


def sized_by_records(name: str) -> bytes:
    """Asks for as many values as one record says, times 2^50."""

    def change(model: onnx.ModelProto) -> None:
        output = model.graph.node[-1].output[0]
        model.graph.node[-1].output[0] = "as before"
        sizes = {"huge": [1 << 50], "one": [1], "none": [0.0]}
        for key, entries in sizes.items():
            kind = np.float32 if key == "none" else np.int64
            tensor = numpy_helper.from_array(np.array(entries, kind), key)
            model.graph.initializer.append(tensor)
        make = helper.make_node
        model.graph.node.extend(
            [
                make("ReduceMax", ["x"], ["largest"], keepdims=0),
                make("Cast", ["largest"], ["whole"], to=TensorProto.INT64),
                make("Reshape", ["whole", "one"], ["row"]),
                make("Mul", ["row", "huge"], ["size"]),
                make("ConstantOfShape", ["size"], ["boom"]),
                make("ReduceSum", ["boom"], ["sum"], keepdims=0),
                make("Add", ["as before", "sum"], [output]),
            ]
        )

    return edited(name, change)


HOSTILE: dict[str, Hostile] = {
    "refused operator": refused_operator,
    "hidden operator": hidden_operator,
    "operator hidden far up": lambda name: hidden_operator(name, 63),
    "operator twice": operator_twice,
    "hidden subgraph": hidden_subgraph,
    "constant of another file": external_constant,
    "hidden constant of another file": lambda name: external_constant(name, bit=32),
    "weights of another file": external_in_place,
    "function": function,
    "other domain": other_domain,
    "sized by records": sized_by_records,
    "garbage": lambda name: put(name, b"garbage"),
    "nothing": lambda name: put(name, b""),
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("name", GRAPHS)
def test_engine_refuses_what_is_not_run_in_any_graph(name: str, case: str) -> None:
    packed = HOSTILE[case](name)

    with pytest.raises(ProtocolError, match=name):
        open_trainer(packed)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    found = Process(tmp_path)
    yield found
    found.trainer.stop()


@pytest.mark.parametrize(
    "case", ["refused operator", "hidden operator", "sized by records", "garbage"]
)
def test_trainer_refuses_what_is_not_run_and_takes_the_next_bundle(
    case: str, process: Process
) -> None:
    honest = (process.folder / "bundle").read_bytes()
    hostile = process.folder / "hostile"
    hostile.write_bytes(HOSTILE[case](PRIVATE_GRADIENT))
    (process.folder / "bundle").write_bytes(hostile.read_bytes())

    refused = process.answer(None)
    process.trainer.answered()
    (process.folder / "bundle").write_bytes(honest)
    taken = process.answer(None)

    assert refused.kind == TrainerReportKind.FAILED_MODEL
    assert PRIVATE_GRADIENT in refused.detail
    assert taken.kind == TrainerReportKind.LOADED


def test_trainer_refuses_parameters_that_are_none(process: Process) -> None:
    (process.folder / "bundle").write_bytes(put(THETA, b"PK\x03\x04"))

    report = process.answer(None)

    assert report.kind == TrainerReportKind.FAILED_MODEL
    assert THETA in report.detail


# Python's own events; what libraries open without it shows among the descriptors.
WATCHED = """
import runpy, sys
log = open(sys.argv[1], "w", buffering=1)
sys.addaudithook(
    lambda event, args: log.write(event + "\\n")
    if event.startswith(("socket.", "subprocess.", "os.exec", "os.fork"))
    else None
)
del sys.argv[1]
runpy.run_module("starling.agent.trainer.worker", run_name="__main__")
"""


def descriptors(pid: int) -> list[str]:
    folder = Path(f"/proc/{pid}/fd")
    return [str(entry.readlink()) for entry in folder.iterdir()]


def test_trainer_opens_no_socket_and_leaves_home_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, events = tmp_path / "home", tmp_path / "events"
    home.mkdir()
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "TMPDIR"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    folder = tmp_path / "board"
    folder.mkdir()
    command = (sys.executable, "-c", WATCHED, str(events))
    process = Process(folder, command)

    try:
        ready = process.answer(order())
        process.trainer.resume()
        result = process.report()
        running = process.trainer._process
        assert running is not None
        opened = descriptors(running.pid)
    finally:
        process.trainer.stop()

    assert (ready.kind, result.kind) == (
        TrainerReportKind.READY,
        TrainerReportKind.RESULT,
    )
    assert list(home.iterdir()) == []
    assert events.read_text() == ""
    assert not [name for name in opened if name.startswith("socket:")]
    assert not [name for name in opened if str(home) in name]


def test_everything_of_a_board_leaves_home_empty(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    bundle = tmp_path / "bundle"
    bundle.write_bytes(put(THETA, FILES[THETA]))
    code = (
        "import sys, pathlib\n"
        "import starling.agent.runtime.process_loop, starling.fleet.cli\n"
        "import starling.coordinator.runtime.process_loop\n"
        "from starling.agent import open_trainer\n"
        "trainer = open_trainer(pathlib.Path(sys.argv[1]))\n"
        "import numpy as np\n"
        "shape = (1, *trainer.manifest.input.shape)\n"
        "trainer.infer(trainer.theta, np.zeros(shape, np.float32))\n"
    )
    environment = {
        name: value
        for name, value in os.environ.items()
        if name != "ORT_DISABLE_TELEMETRY"
    }

    subprocess.run(
        [sys.executable, "-c", code, str(bundle)],
        env={**environment, "HOME": str(home), "MPLCONFIGDIR": str(tmp_path)},
        check=True,
    )

    assert list(home.iterdir()) == []
