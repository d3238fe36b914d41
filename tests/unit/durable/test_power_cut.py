"""The power goes at every change of the disk: what was acknowledged is still there."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count, product
from pathlib import Path

import pytest
from tinydb import TinyDB

from starling.durable.atomic_tinydb import AtomicStorage, StorageCondition
from starling.durable.files import write_atomic
from starling.durable.journal import Journal
from tests.unit.durable.power_cut_disk import PowerCut, PowerCutDisk

LOSSES = [
    {"keep": keep, "null_filled": null_filled, "undo_renames": undo}
    for keep, null_filled, undo in product((0, 0.5, 1), (False, True), (False, True))
]


def power_cuts(
    folder: Path,
    prepare: Callable[[Path], None],
    change: Callable[[Path, list[str]], None],
) -> Iterator[tuple[Path, list[str], str]]:
    """Runs `change` once per step and loss; yields what is left of its folder.

    Yields:
      The folder, what `change` noted as acknowledged, and a name for the failure.
    """
    for number, loss in enumerate(LOSSES):
        for cut_at in count():
            place = folder / f"{number}-{cut_at}"
            place.mkdir()
            prepare(place)
            acknowledged: list[str] = []
            with pytest.MonkeyPatch.context() as patch:
                power = PowerCutDisk(patch, cut_at)
                with suppress(PowerCut):
                    change(place, acknowledged)
            if power.steps < cut_at:
                break
            power.lose(**loss)  # type: ignore[arg-type]  # the table mixes its types
            yield place, acknowledged, f"cut at step {cut_at}, {loss}"


def test_file_after_power_cut_holds_the_old_or_the_new_content(tmp_path: Path) -> None:
    def prepare(place: Path) -> None:
        write_atomic(place / "f", b"old" * 500)

    def change(place: Path, acknowledged: list[str]) -> None:
        write_atomic(place / "f", b"newer" * 1000)
        acknowledged.append("new")

    outcomes = set()
    for place, acknowledged, name in power_cuts(tmp_path, prepare, change):
        content = (place / "f").read_bytes()
        outcomes.add(content)
        assert content in (b"old" * 500, b"newer" * 1000), name
        assert content == b"newer" * 1000 or not acknowledged, name
    assert len(outcomes) == 2


def test_journal_after_power_cut_holds_all_acknowledged_entries(tmp_path: Path) -> None:
    def prepare(place: Path) -> None:
        Journal.open(place / "j")[0].close()

    def change(place: Path, acknowledged: list[str]) -> None:
        journal, _ = Journal.open(place / "j")
        with journal:
            journal.append(b"a" * 5000)
            acknowledged.append("a")
            journal.append_many([b"b" * 300, b"c"])
            acknowledged.append("bc")

    whole = ["", "a", "abc"]
    for place, acknowledged, name in power_cuts(tmp_path, prepare, change):
        journal, payloads = Journal.open(place / "j")
        journal.close()
        found = "".join(payload[:1].decode() for payload in payloads)
        assert found in whole, name
        assert found.startswith("".join(acknowledged)), name


def test_journal_after_power_cut_at_its_birth_opens(tmp_path: Path) -> None:
    def change(place: Path, acknowledged: list[str]) -> None:
        journal, _ = Journal.open(place / "j")
        with journal:
            journal.append(b"a")
            acknowledged.append("a")

    for place, acknowledged, name in power_cuts(tmp_path, lambda _: None, change):
        journal, payloads = Journal.open(place / "j")
        journal.close()
        assert payloads == [b"a"] or (payloads == [] and not acknowledged), name


def test_journal_rewritten_in_a_power_cut_holds_old_or_new_entries(
    tmp_path: Path,
) -> None:
    def prepare(place: Path) -> None:
        journal, _ = Journal.open(place / "j")
        with journal:
            journal.append_many([b"old", b"older"])

    def change(place: Path, acknowledged: list[str]) -> None:
        journal, _ = Journal.open(place / "j")
        with journal:
            journal.rewrite([b"new"])
            acknowledged.append("new")

    for place, acknowledged, name in power_cuts(tmp_path, prepare, change):
        journal, payloads = Journal.open(place / "j")
        journal.close()
        assert payloads == [b"new"] or (
            payloads == [b"old", b"older"] and not acknowledged
        ), name


def test_document_after_power_cut_holds_the_last_acknowledged_write_or_the_next(
    tmp_path: Path,
) -> None:
    def prepare(place: Path) -> None:
        with TinyDB(place / "d", storage=AtomicStorage) as document:
            document.insert({"n": 0})

    def change(place: Path, acknowledged: list[str]) -> None:
        with TinyDB(place / "d", storage=AtomicStorage) as document:
            for number in (1, 2):
                document.update({"n": number})
                acknowledged.append(str(number))

    for place, acknowledged, name in power_cuts(tmp_path, prepare, change):
        storage = AtomicStorage(place / "d")
        with TinyDB(place / "d", storage=AtomicStorage) as document:
            numbers = [record["n"] for record in document]
        assert storage.condition in (
            StorageCondition.SOUND,
            StorageCondition.RESTORED,
        ), name
        assert numbers in ([len(acknowledged)], [len(acknowledged) + 1]), name
