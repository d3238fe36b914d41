"""A coordinator whose chain is gone gets it from another process over a real broker."""

import json
from pathlib import Path

import pytest

from benchmarks.harness.coordinator_processes import CoordinatorProcesses
from benchmarks.harness.synthetic_chain import SyntheticChain, write
from starling import __main__ as starling
from starling.coordinator.chain.storage.snapshot import SNAPSHOT_BLOCKS
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE

pytestmark = pytest.mark.e2e

BLOCKS = SNAPSHOT_BLOCKS + 300


@pytest.mark.parametrize(
    "pruned",
    [
        pytest.param(0, id="by-blocks", marks=pytest.mark.soak),
        pytest.param(900, id="by-snapshot"),
    ],
)
def test_damaged_chain_is_set_aside_and_comes_back_from_a_peer(
    tmp_path: Path, pruned: int, capsys: pytest.CaptureFixture[str]
) -> None:
    council = CoordinatorProcesses(tmp_path, 4, 60, {})
    chain = SyntheticChain(
        council.genesis, council.keys(), council.homes[0].operator_key()
    )
    store = write(council.homes[0].state / CHAIN_FILE, chain, BLOCKS)
    with store.transaction():
        store.prune(pruned)
    store.close()
    late = council.homes[1]
    (late.state / CHAIN_FILE).write_bytes(b"")

    assert starling.main(["coordinator", "recover", "--home", str(late.path)]) == 0
    with council.broker.process():
        try:
            council.start(0)
            council.start(1)
            council.wait(lambda status: status["chain"]["height"] >= BLOCKS)
        finally:
            council.end()

    capsys.readouterr()
    words = ["chain", "verify", "--home", str(late.path), "--json"]
    assert starling.main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["verified"], found["height"]) == (True, BLOCKS)
    assert found["bodies_from"] == (SNAPSHOT_BLOCKS + 1 if pruned else 1)
