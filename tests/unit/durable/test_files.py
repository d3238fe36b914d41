"""Atomic replacement, limits, private modes and locks."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from durable import files
from protocol.errors import ConfigError, LimitError, StorageError


def test_write_atomic_replaces_content_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "state"

    files.write_atomic(path, b"one")
    files.write_atomic(path, b"two")

    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o600, 0o644], ids=oct)
def test_write_atomic_sets_the_mode_whatever_the_umask(
    tmp_path: Path, mode: int
) -> None:
    before = os.umask(0o077)
    try:
        files.write_atomic(tmp_path / "state", b"", mode)
    finally:
        os.umask(before)

    assert (tmp_path / "state").stat().st_mode & 0o777 == mode


@pytest.mark.parametrize(
    ("number", "message"),
    [(errno.ENOSPC, "disk full"), (errno.EDQUOT, "disk full"), (errno.EROFS, "Read")],
    ids=["full", "quota", "read-only"],
)
def test_write_atomic_refused_by_the_disk_keeps_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    path = tmp_path / "state"
    files.write_atomic(path, b"old")

    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refuse)
        with pytest.raises(StorageError, match=message):
            files.write_atomic(path, b"new")

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_write_atomic_into_missing_folder_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file"):
        files.write_atomic(tmp_path / "none" / "state", b"")


@pytest.mark.parametrize("length", [0, 7, 8], ids=["empty", "below", "at-limit"])
def test_read_limited_within_the_limit_gives_all(tmp_path: Path, length: int) -> None:
    (tmp_path / "f").write_bytes(bytes(length))

    assert files.read_limited(tmp_path / "f", 8) == bytes(length)


def test_read_limited_over_the_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(9))

    with pytest.raises(LimitError, match="more than 8 bytes"):
        files.read_limited(tmp_path / "f", 8)


def test_read_of_a_missing_file_is_an_error_or_none(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file"):
        files.read_limited(tmp_path / "f", 8)
    assert files.read_if_present(tmp_path / "f", 8) is None


def test_read_if_present_of_a_folder_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        files.read_if_present(tmp_path, 8)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o777], ids=oct)
def test_require_private_names_file_and_remedy(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    path.touch()
    path.chmod(mode)

    with pytest.raises(ConfigError, match=f"{path}: readable.*chmod 600 {path}"):
        files.require_private(path)


@pytest.mark.parametrize("mode", [0o600, 0o400], ids=oct)
def test_require_private_accepts_the_owner_alone(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    path.touch()
    path.chmod(mode)

    files.require_private(path)


def test_lock_held_by_another_process_names_its_pid(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    script = (
        "import sys, pathlib; from durable.files import lock;"
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
            files.lock(path)
        child.kill()
        child.wait()

        files.lock(path).release()


def test_lock_released_can_be_taken_again(tmp_path: Path) -> None:
    with files.lock(tmp_path / "lock"), pytest.raises(ConfigError, match="already"):
        files.lock(tmp_path / "lock")
    held = files.lock(tmp_path / "lock")
    held.release()
    held.release()


def test_free_bytes_of_a_folder_is_positive_and_of_nothing_an_error(
    tmp_path: Path,
) -> None:
    assert files.free_bytes(tmp_path) > 0
    with pytest.raises(StorageError):
        files.free_bytes(tmp_path / "none")
