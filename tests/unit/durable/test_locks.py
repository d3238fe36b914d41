"""Locks of folders: who holds them, whose they are."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from starling.durable import locks
from starling.protocol.errors import ConfigError, StorageError


def test_lock_held_by_another_process_names_its_pid(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    script = (
        "import sys, pathlib; from starling.durable.locks import lock;"
        "held = lock(pathlib.Path(sys.argv[1])); print('held', flush=True);"
        "sys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(ConfigError, match=f"already running as pid {child.pid}"):
            locks.lock(path)
        child.kill()
        child.wait()

        locks.lock(path).release()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
@pytest.mark.parametrize("take", [locks.lock, locks.wait_for_lock])
@pytest.mark.parametrize("left", [False, True], ids=["new", "left-by-root"])
def test_lock_taken_by_root_belongs_to_the_owner_of_its_folder(
    tmp_path: Path, take: Callable[[Path], locks.FileLock], left: bool
) -> None:
    path, owner, group = tmp_path / "home" / "lock", 65_501, 65_502
    path.parent.mkdir()
    os.chown(path.parent, owner, group)
    if left:
        path.touch(0o600)

    take(path).release()

    assert (path.stat().st_uid, path.stat().st_gid) == (owner, group)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
def test_file_with_a_second_name_elsewhere_is_not_given_away(tmp_path: Path) -> None:
    path, precious = tmp_path / "home" / "lock", tmp_path / "precious"
    path.parent.mkdir()
    os.chown(path.parent, 65_501, 65_501)
    precious.touch(0o600)
    path.hardlink_to(precious)

    locks.lock(path).release()

    assert precious.stat().st_uid == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
def test_lock_of_another_user_stays_with_that_user(tmp_path: Path) -> None:
    path, others = tmp_path / "home" / "lock", 65_503
    path.parent.mkdir()
    os.chown(path.parent, 65_501, 65_501)
    path.touch(0o600)
    os.chown(path, others, others)

    locks.lock(path).release()

    assert path.stat().st_uid == others


@pytest.mark.parametrize("take", [locks.lock, locks.wait_for_lock])
def test_lock_that_is_a_link_is_refused_and_its_target_stays(
    tmp_path: Path, take: Callable[[Path], locks.FileLock]
) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    (tmp_path / "lock").symlink_to(target)

    with pytest.raises(StorageError, match="lock"):
        take(tmp_path / "lock")

    assert target.read_bytes() == b"precious"


def test_lock_released_can_be_taken_again(tmp_path: Path) -> None:
    with locks.lock(tmp_path / "lock"), pytest.raises(ConfigError, match="already"):
        locks.lock(tmp_path / "lock")
    held = locks.lock(tmp_path / "lock")
    held.release()
    held.release()


def test_holder_is_seen_from_outside_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert locks.lock_holder(path) == 0
    assert not locks.is_locked(path)

    with locks.lock(path):
        assert locks.lock_holder(path) == os.getpid()
        assert locks.is_locked(path)
        content = path.read_bytes()

    assert locks.lock_holder(path) == 0
    assert not locks.is_locked(path)
    assert path.read_bytes() == content


def test_look_at_a_lock_keeps_nobody_from_taking_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    locks.lock(path).release()
    monkeypatch.delattr(fcntl, "flock")

    assert locks.lock_holder(path) == 0
