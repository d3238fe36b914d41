"""A coordinator's home with tokens and a bundle, and a browser that signs in to it."""

import http.client
import re
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

from starling.broker.broker_settings import BrokerSettings
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.operations.operator_tokens import make_token
from tests.unit.console.conftest import RunningConsole, write_status
from tests.unit.console.status_documents import document
from tests.unit.coordinator.cli.verbs.test_boards_and_tasks import fleet
from tests.unit.coordinator.fixtures.line_task import write_line

TIMEOUT_S = 180.0


def operated_home(folder: Path) -> CoordinatorHome:
    """A home that admits and publishes, with a status; its coordinator is away."""
    home = fleet(folder, BrokerSettings("meadow", "127.0.0.1"))
    home.state.mkdir(parents=True, exist_ok=True)
    made = document()
    made["state"] = "stopped"
    write_status(home.path, made)
    write_line(home.path / "bundles" / "line")
    return home


def new_token(home: CoordinatorHome, now_s: float, days: int = 1) -> str:
    return make_token(home, "Ana", days, now_s)[1]


def dropped(home: CoordinatorHome) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in home.inbox.glob("*.tx")}


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode()


@dataclass
class Operator:
    """Keeps a cookie and the secret of its forms, as a browser does."""

    console: RunningConsole
    cookie: str = ""
    csrf: str = ""
    address: str = "127.0.0.1"
    headers: dict[str, str] = field(default_factory=dict)

    def ask(self, path: str, method: str = "GET", body: bytes | None = None) -> Answer:
        connection = http.client.HTTPConnection(
            "127.0.0.1",
            self.console.port,
            TIMEOUT_S,
            source_address=(self.address, 0),
        )
        named = dict(self.headers)
        if self.cookie:
            named["Cookie"] = self.cookie
        if body is not None:
            named.setdefault("Content-Type", "application/x-www-form-urlencoded")
        with closing(connection):
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())

    def post(self, path: str, **fields: str) -> Answer:
        sent = {"csrf": self.csrf, **fields}
        return self.ask(path, "POST", urlencode(sent).encode())

    def sign_in(self, token: str) -> Answer:
        answer = self.ask("/sign-in", "POST", urlencode({"token": token}).encode())
        if answer.status == 303:
            self.cookie = answer.headers["set-cookie"].split(";")[0]
            found = re.search(r'name="csrf" value="([^"]+)"', self.ask("/").text)
            assert found is not None
            self.csrf = found[1]
        return answer
