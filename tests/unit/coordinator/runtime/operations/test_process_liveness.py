"""A lock is looked at from outside, and left as it is."""

from pathlib import Path

from starling.coordinator.runtime.operations.process_liveness import is_locked
from starling.durable.locks import lock


def test_lock_is_seen_from_outside_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_locked(path)

    with lock(path):
        assert is_locked(path)
        content = path.read_bytes()

    assert not is_locked(path)
    assert path.read_bytes() == content
