"""Operator's transactions, each with a number of its own."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from starling.broker.broker_settings import BrokerSettings
from starling.coordinator.runtime.operations.submission import submit
from starling.protocol.wire.envelope import ENVELOPE, MessageKind
from tests.unit.coordinator.cli.verbs.test_boards_and_tasks import fleet

THREADS = 8
TRANSACTIONS = 32


def test_hands_that_submit_at_once_never_use_one_number_twice(tmp_path: Path) -> None:
    home = fleet(tmp_path, BrokerSettings("meadow"))
    (home.path / "state").mkdir(exist_ok=True)

    with ThreadPoolExecutor(THREADS) as pool:
        made = list(
            pool.map(
                lambda number: submit(home, MessageKind.FUND, b"%d" % number),
                range(TRANSACTIONS),
            )
        )

    files = [home.inbox / f"{identity.hex()}.tx" for identity in made]
    used = sorted(ENVELOPE.unpack(file.read_bytes()).counter for file in files)
    assert used == list(range(used[0], used[0] + TRANSACTIONS))
