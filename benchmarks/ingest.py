"""How many updates a coordinator takes in: through a real broker to durable receipts.

`python -m benchmarks.ingest` makes a fleet of boards, seals and signs one 8-bit update
for each, starts Mosquitto (TLS, access rules) and a coordinator as processes, and
publishes all updates from a third process. It prints the rate on the wall clock, the
rate per processor second of the coordinator, and the share of each stage, measured
alone on the same updates. JSON goes to benchmarks/results/ingest.json.
"""

import argparse
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.harness.board_uploads import (
    NORM_MAX,
    PublishedTask,
    as_messages,
    board_keys,
    make_uploads,
    task,
)
from benchmarks.harness.coordinator_processes import used_s
from benchmarks.harness.load_generator import PreparedLoad, admit_loader, run_load
from benchmarks.harness.result_file import keep
from starling.broker.broker_settings import BrokerSettings
from starling.broker.link_events import AckToken, MqttMessage
from starling.broker.runtime.broker_home import BrokerHome
from starling.broker.runtime.mosquitto_process import free_port
from starling.coordinator.chain.storage.chain_store import StoredUpload
from starling.coordinator.loop.ports import Clock, Item
from starling.coordinator.runtime.assembly import assemble
from starling.coordinator.runtime.environment import CoordinatorEnvironment
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.setup.genesis_setup import GenesisOptions, found
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.coordinator.step.events import TransactionArrived
from starling.coordinator.update.admission_checks import open_contribution
from starling.coordinator.update.norm_bound import check_norm
from starling.fleet.runtime.processes.supervisor import starling_command
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.crypto.sealed_blob import (
    SEALED,
    blob_digest,
    commitment,
    open_sealed,
)
from starling.protocol.errors import TransportError
from starling.protocol.learning.task import Q15, TASK, TaskSpec
from starling.protocol.learning.vector_codecs import CODECS
from starling.protocol.wire.envelope import ENVELOPE, MessageKind, sign
from starling.protocol.wire.message_bodies import (
    CONTRIBUTION,
    REGISTER,
    UPLOAD,
    Register,
    Upload,
)
from starling.protocol.wire.topics import Topics

FLEET = "ingest"
RECEIPTS = (MessageKind.ACCEPTED, MessageKind.FINAL)
DEADLINE_S = 120.0
OPEN_BYTES_MAX = 32 << 20
"""Of updates without a receipt: half of what the broker keeps for one client; beyond
that it drops in silence, and nobody would send again."""


@dataclass(frozen=True)
class Fleet:
    """Everything that the measurement needs.

    Attributes:
      spec: The task.
      uploads: One per board.
      wholes: The same, packed.
    """

    spec: TaskSpec
    uploads: list[Upload]
    wholes: list[bytes]


def make_homes(root: Path) -> tuple[BrokerHome, CoordinatorHome]:
    """Founds a fleet of one coordinator, in an empty folder."""
    broker = BrokerHome(root / "broker")
    broker.prepare(BrokerSettings(FLEET, "127.0.0.1", free_port()))
    home = CoordinatorHome(root / "coordinator")
    found(home, GenesisOptions(FLEET, broker.path, "", 0, 3600))
    return broker, home


def make_fleet(
    home: CoordinatorHome, dimension: int, updates: int, boards: int = 0
) -> Fleet:
    """Writes a chain with all boards and the task, and makes the updates.

    Args:
      home: Of the coordinator, without a chain yet.
      dimension: Of an update.
      updates: How many, each of another board.
      boards: Registered ones, if there are more.
    """
    published = task(dimension, updates, 1000)
    keys = board_keys(max(updates, boards))
    _write_chain(home, published, keys)
    granting = [home.signing_key()]
    uploads = make_uploads(home.genesis(), granting, keys[:updates], published.spec)
    return Fleet(published.spec, uploads, [UPLOAD.pack(each) for each in uploads])


class _NoBus:
    """A broker that is never there."""

    def publish(self, message: MqttMessage) -> int:
        raise TransportError("there is no broker")

    def acknowledge_many(self, tokens: Iterable[AckToken]) -> None:
        del tokens


def _write_chain(
    home: CoordinatorHome, published: PublishedTask, keys: Sequence[SigningKey]
) -> None:
    operator, chain_id = home.operator_key(), home.genesis().chain_id()
    bodies = [
        (MessageKind.REGISTER, REGISTER.pack(Register(key.public))) for key in keys
    ]
    bodies.append((MessageKind.TASK, TASK.pack(published.spec)))
    now_s, coming = [0.0], deque[Item]()
    clock = Clock(lambda: now_s[0], lambda: 0)
    parts = assemble(home, coming.append, CoordinatorEnvironment(clock=clock))
    loop = parts.loop
    with parts.store.transaction():
        for part in (published.bundle, *published.model.parts()):
            parts.store.put_blob(part)
    loop.begin(_NoBus())
    for number, (kind, body) in enumerate(bodies, 1):
        packed = ENVELOPE.pack(sign(operator, chain_id, kind, number, body))
        coming.append(TransactionArrived(f"{number}", packed))
    while not loop.state.tasks:
        # The bundle is examined meanwhile: then the chain's time stands still.
        now_s[0] += bool(coming or loop.state.ledger.mempool.size)
        loop.turn([coming.popleft() for _ in range(len(coming))])
        time.sleep(0.001)
    parts.workers.stop()
    parts.votes.close()
    parts.store.close()


def measure(
    home: CoordinatorHome,
    broker: BrokerHome,
    fleet: Fleet,
    beside: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> dict[str, float]:
    """Starts everything, publishes all updates, waits for all receipts.

    Args:
      home: Of the coordinator.
      broker: Of the broker.
      fleet: Its updates.
      beside: What else stands there while they come.
    """
    root = home.path.parent
    files = admit_loader(broker, root)
    messages = as_messages(Topics(FLEET), fleet.uploads)
    port = broker.require_settings().port
    open_max = max(1, OPEN_BYTES_MAX // len(fleet.wholes[0]))
    load = PreparedLoad(port, files, FLEET, RECEIPTS, 0, open_max, False, messages)
    with broker.process():
        coordinator = subprocess.Popen(
            starling_command("coordinator", "run", "--home", str(home.path)),
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_until_connected(home)
            with beside():
                before_s = used_s(coordinator.pid)
                network_before_s = _network_s(coordinator.pid)
                outcome = run_load(load, root, DEADLINE_S)
                processor_s = used_s(coordinator.pid) - before_s
                network_s = _network_s(coordinator.pid) - network_before_s
        finally:
            coordinator.terminate()
            coordinator.wait(DEADLINE_S)
    return {
        "wall_s": outcome.elapsed_s,
        "processor_s": processor_s,
        "network_s": network_s,
    }


def stages(home: CoordinatorHome, fleet: Fleet) -> dict[str, float]:
    """Microseconds per update of each stage, alone, on the same updates."""
    key, chain_id = home.sealing_key(), home.genesis().chain_id()
    spec = fleet.spec
    uploads = fleet.uploads[:300]
    opened = [
        open_sealed(SEALED.unpack(upload.blob), key, upload.update.sender)
        for upload in uploads
    ]
    bodies = [CONTRIBUTION.unpack(upload.update.body) for upload in uploads]
    vectors = [
        open_contribution(key, upload.update.sender, body, upload.blob, spec)
        for upload, body in zip(uploads, bodies, strict=True)
    ]
    decode = CODECS[spec.codec].decode

    def timed(work: Callable[[int], object]) -> float:
        start_s = time.process_time()
        for index in range(len(uploads)):
            work(index)
        return (time.process_time() - start_s) / len(uploads) * 1e6

    total = np.zeros(spec.dimension, np.int64)
    return {
        "signatures": timed(lambda i: uploads[i].update.check(chain_id))
        + timed(lambda i: uploads[i].lease.check(chain_id)),
        "unsealing": timed(
            lambda i: open_sealed(
                SEALED.unpack(uploads[i].blob), key, uploads[i].update.sender
            )
        ),
        "digests": timed(lambda i: blob_digest(uploads[i].blob))
        + timed(lambda i: commitment(*opened[i])),
        "decoding": timed(lambda i: decode(opened[i][1], spec.dimension)),
        "norm": timed(lambda i: check_norm(vectors[i], NORM_MAX)),
        "sum": timed(lambda i: np.add(total, vectors[i] * Q15, out=total)),
        "upload's form": timed(lambda i: UPLOAD.unpack(fleet.wholes[i])),
    }


def disk(home: CoordinatorHome, fleet: Fleet, folder: Path) -> tuple[float, float]:
    """Stores uploads as the coordinator does, in synced batches of 64.

    Returns:
      Microseconds of processor and of the clock per update; what the second has more
      is waiting for the disk.
    """
    genesis = home.genesis()
    chain_id = genesis.chain_id()
    store = SqliteStore.create(folder / "disk.sqlite3", genesis)
    start_s, used_s = time.perf_counter(), time.process_time()
    for first in range(0, len(fleet.uploads), 64):
        with store.transaction():
            for upload in fleet.uploads[first : first + 64]:
                identity = upload.update.identity(chain_id)
                store.put_upload(StoredUpload(identity, upload.update, upload.blob, 0))
    each = 1e6 / len(fleet.uploads)
    used_us = (time.process_time() - used_s) * each
    clock_us = (time.perf_counter() - start_s) * each
    store.close()
    return used_us, clock_us


def _wait_until_connected(home: CoordinatorHome) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline_s:
        if home.status.exists() and '"connected"' in home.status.read_text():
            return
        time.sleep(0.05)
    raise TimeoutError("the coordinator does not connect")


def _network_s(pid: int) -> float:
    """All threads but the main one: MQTT and TLS, and workers that sit idle here."""
    threads = [int(one.name) for one in Path(f"/proc/{pid}/task").iterdir()]
    return sum(used_s(pid, thread) for thread in threads if thread != pid)


def main() -> None:
    """Measures, prints the table and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=1500)
    parser.add_argument("--dimension", type=int, default=21840)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        broker, home = make_homes(root)
        fleet = make_fleet(home, options.dimension, options.updates)
        alone = stages(home, fleet)
        alone["disk"], disk_clock_us = disk(home, fleet, root)
        load = measure(home, broker, fleet)
    each_us = load["processor_s"] / options.updates * 1e6
    alone["MQTT and TLS"] = load["network_s"] / options.updates * 1e6
    alone["chain, receipts, rest"] = each_us - sum(alone.values())
    report = {
        "updates": options.updates,
        "dimension": options.dimension,
        "bytes": len(fleet.wholes[0]),
        "per_s_wall": options.updates / load["wall_s"],
        "per_s_and_core": 1e6 / each_us,
        "stages_us": alone,
        "fsync_wait_us": disk_clock_us - alone["disk"],
    }
    print(f"{options.updates} updates of {len(fleet.wholes[0])} bytes")
    for name, value in alone.items():
        print(f"  {name:<24} {value:7.1f} us  {100 * value / each_us:5.1f} %")
    print(f"  {'all':<24} {each_us:7.1f} us")
    print(f"  and {report['fsync_wait_us']:.1f} us of waiting for fsync, on the clock")
    print(
        f"{report['per_s_wall']:.0f} updates/s on the clock, "
        f"{report['per_s_and_core']:.0f} per second of the coordinator's processor"
    )
    keep("ingest", report)


if __name__ == "__main__":
    main()
