"""A coordinator's process, and boards that speak by script."""

import json
import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from starling.broker.backoff import BackoffPolicy
from starling.broker.link_events import (
    LinkSettings,
    MessageArrived,
    MqttMessage,
    TlsFiles,
)
from starling.broker.runtime.broker_home import BrokerHome
from starling.broker.runtime.tls_key import write_tls_key
from starling.protocol.chain.enrolment import admission_from_json, request_enrolment
from starling.protocol.chain.genesis import Genesis
from starling.protocol.chain.light_client import FINAL, MANIFEST, ModelManifest, pin
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.crypto.sealed_blob import ENTROPY_BYTES, blob_digest, seal
from starling.protocol.errors import TransportError
from starling.protocol.ids import TaskId, Version, device_name
from starling.protocol.wire.chunks import CHUNK, split
from starling.protocol.wire.envelope import ENVELOPE, Envelope, MessageKind, sign
from starling.protocol.wire.message_bodies import (
    ACCEPTED,
    CHECK_IN,
    CONTRIBUTION,
    LEASE,
    UPLOAD,
    CheckIn,
    Contribution,
    Upload,
)
from starling.protocol.wire.topics import Topics
from tests.e2e.conftest import RecordedLink
from tests.e2e.deadline import DEADLINE_S
from tests.unit.coordinator.fixtures import line_task
from tests.unit.coordinator.fixtures.line_task import DIMENSION

FLEET = "test"


RESEND_S = 2.0


PLEDGE = 16


TASK = f'codec = "float32"{line_task.TASK}'


def starling(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "starling", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )


def until(condition: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"no {what}"
        time.sleep(0.05)


def done(*words: str | Path) -> str:
    result = starling(*words)
    assert result.returncode == 0, result.stderr
    return result.stdout


class Coordinator:
    """A coordinator's folder and, between `start` and `kill`, its process."""

    def __init__(self, home: Path, broker: BrokerHome) -> None:
        self.home = home
        self.broker = broker
        self.log = home.parent / "coordinator.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "starling", "coordinator", "run"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--home", str(self.home)], stderr=log
            )

    def end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(DEADLINE_S)

    def status(self) -> dict[str, object]:
        text = (self.home / "status.json").read_text()
        document: dict[str, object] = json.loads(text)
        return document


class ScriptedBoard:
    """A board that holds no model: it speaks the protocol and keeps what it heard."""

    def __init__(self, number: int, coordinator: Coordinator) -> None:
        folder = coordinator.home.parent / f"board{number}"
        folder.mkdir()
        self.key = SigningKey(number.to_bytes(32))
        self.name = device_name(self.key.identity)
        tls_key = write_tls_key(folder / "tls.key", os.urandom(32))
        request = folder / "request.json"
        request.write_text(request_enrolment(self.key, tls_key).to_json())
        out = folder / "admission.json"
        done(
            *("coordinator", "admit", request),
            *("--out", out, "--home", coordinator.home),
        )
        admission = admission_from_json(out.read_text())
        self.genesis: Genesis = admission.genesis
        (folder / "ca.pem").write_text(admission.ca_pem)
        (folder / "tls.pem").write_text(admission.certificate_pem)
        self.topics = Topics(FLEET)
        self.counter = 0
        self.newest: ModelManifest | None = None
        self.link = RecordedLink(
            LinkSettings(
                admission.broker_host,
                admission.broker_port,
                self.name,
                TlsFiles(folder / "ca.pem", folder / "tls.pem", folder / "tls.key"),
                subscriptions=self.topics.board_filters(self.name),
                backoff=BackoffPolicy(first_s=0.05, most_s=0.2),
            )
        )

    def sign(self, kind: MessageKind, body: bytes) -> Envelope:
        self.counter += 1
        chain_id = self.genesis.chain_id()
        return sign(self.key, chain_id, kind, self.counter, body)

    def publish(self, topic: str, payload: bytes) -> None:
        """Publishes as soon as there is a connection."""
        deadline_s = time.monotonic() + DEADLINE_S
        while True:
            try:
                self.link.link.publish(MqttMessage(topic, payload))
            except TransportError:
                assert time.monotonic() < deadline_s
                time.sleep(0.02)
            else:
                return

    def receive(
        self, kind: MessageKind, condition: Callable[[Envelope], bool]
    ) -> Envelope:
        """The next envelope of a kind for this board."""
        found: list[Envelope] = []

        def fits(event: MessageArrived) -> bool:
            self._take(event)
            if event.topic != self.topics.down(self.name):
                return False
            found[:] = [ENVELOPE.unpack(event.payload)]
            return found[0].kind == kind and condition(found[0])

        self.link.wait(MessageArrived, fits)
        return found[0]

    def lease(self, version: int) -> Envelope:
        """Checks in, again if need be, until it has a lease."""
        body = CHECK_IN.pack(CheckIn(TaskId(0), Version(version), 0, 0, 0, PLEDGE))
        topic = self.topics.say(self.name)
        self.publish(topic, ENVELOPE.pack(self.sign(MessageKind.CHECK_IN, body)))
        return self.receive(
            MessageKind.LEASE, lambda heard: LEASE.unpack(heard.body).version == version
        )

    def make(self, lease: Envelope, values: list[float]) -> Upload:
        vector = np.array(values, "<f4").tobytes()
        recipients = [one.sealing for one in self.genesis.validators.members]
        blob, commitment = seal(
            vector, recipients, os.urandom(ENTROPY_BYTES), self.key.public
        )
        granted = LEASE.unpack(lease.body)
        body = Contribution(
            granted.task,
            granted.version,
            0,
            PLEDGE,
            0,
            0,
            blob_digest(blob),
            commitment,
        )
        return Upload(
            self.sign(MessageKind.UPDATE, CONTRIBUTION.pack(body)), lease, blob
        )

    def send(self, upload: Upload) -> None:
        for chunk in split(UPLOAD.pack(upload)):
            self.publish(self.topics.up(self.name), CHUNK.pack(chunk))

    def deliver(self, upload: Upload) -> None:
        """Sends an upload, again and again as a board does, until it is accepted."""
        deadline_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline_s:
            self.send(upload)
            if self._accepted_within(RESEND_S, self.identity(upload)):
                return
        pytest.fail("no receipt")

    def _accepted_within(self, seconds: float, identity: bytes) -> bool:
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 0:
            try:
                event = self.link.events.get(timeout=left_s)
            except queue.Empty:
                return False
            if not isinstance(event, MessageArrived):
                continue
            self._take(event)
            if event.topic == self.topics.down(self.name):
                heard = ENVELOPE.unpack(event.payload)
                if heard.kind == MessageKind.ACCEPTED:
                    return ACCEPTED.unpack(heard.body).update == identity
        return False

    def identity(self, upload: Upload) -> bytes:
        return upload.update.identity(self.genesis.chain_id())

    def await_receipt(self, upload: Upload) -> None:
        identity = self.identity(upload)
        self.receive(
            MessageKind.ACCEPTED,
            lambda heard: ACCEPTED.unpack(heard.body).update == identity,
        )

    def await_final(self, upload: Upload) -> None:
        heard = self.receive(
            MessageKind.FINAL,
            lambda heard: FINAL.unpack(heard.body).transaction == upload.update,
        )
        FINAL.unpack(heard.body).check(pin(self.genesis))

    def await_version(self, version: int) -> ModelManifest:
        """The manifest of a version, checked as a board checks it."""

        def has_come() -> bool:
            return self.newest is not None and self.newest.version >= version

        def fits(event: MessageArrived) -> bool:
            self._take(event)
            return has_come()

        if not has_come():
            self.link.wait(MessageArrived, fits)
        assert self.newest is not None
        self.newest.check(pin(self.genesis))
        return self.newest

    def _take(self, event: MessageArrived) -> None:
        """Acknowledges a message, and keeps a manifest whatever is waited for."""
        self.link.link.acknowledge(event.token)
        if event.topic == self.topics.manifest(0):
            self.newest = MANIFEST.unpack(event.payload)


def values(number: float) -> list[float]:
    return [number] + [0.0] * (DIMENSION - 1)


def checked(home: Path) -> tuple[int, dict[str, str]]:
    """The exit status of `check`, and each row's verdict."""
    result = starling("coordinator", "check", "--home", home, "--json")
    rows = json.loads(result.stdout)["checks"]
    return result.returncode, {row["name"]: row["verdict"] for row in rows}
