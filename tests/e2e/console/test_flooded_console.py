"""A console that 200 clients ask at once, beside the coordinator that it shows."""

import json
import threading
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Broker
from tests.e2e.console.test_operator_in_browser import coordinator, founded
from tests.e2e.deadline import DEADLINE_S
from tests.e2e.fleet.fleet_process import until

pytestmark = pytest.mark.e2e

CLIENTS = 200
BLOCKS = 8


class Flood:
    """Clients that ask without a pause.

    Attributes:
      answers: Statuses that came, with how often.
    """

    def __init__(self, port: int) -> None:
        self.answers: dict[int, int] = {}
        self._port = port
        self._guard = threading.Lock()
        self._ends = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]

    def __enter__(self) -> "Flood":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join(DEADLINE_S)

    def _ask(self) -> None:
        while not self._ends.is_set():
            connection = HTTPConnection("127.0.0.1", self._port, timeout=DEADLINE_S)
            with suppress(OSError, HTTPException):
                connection.request("GET", "/boards")
                status = connection.getresponse().status
                with self._guard:
                    self.answers[status] = self.answers.get(status, 0) + 1
            connection.close()


def test_blocks_go_on_while_200_clients_ask_at_once(
    broker: Broker, tmp_path: Path
) -> None:
    home, _ = founded(broker, tmp_path)

    def status() -> dict[str, Any]:
        found = json.loads(home.status.read_text())
        assert isinstance(found, dict)
        return found

    def height() -> int:
        return int(status()["chain"]["height"])

    with coordinator(home) as url:
        until(home.status.exists, "a status")
        with Flood(int(url.rpartition(":")[2])) as flood:
            until(lambda: sum(flood.answers.values()) >= CLIENTS, "answers")
            first, rounds = height(), status()["consensus"]["rounds"]
            until(lambda: height() >= first + BLOCKS, "blocks beside the flood")
            assert status()["consensus"]["rounds"] == rounds
        answers = dict(flood.answers)

    assert set(answers) <= {200, 503}
    assert answers[200] >= CLIENTS
