"""Atomic replacement, limits, and private modes."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from starling.durable import files
from starling.protocol.errors import ConfigError, LimitError, StorageError


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


def test_write_atomic_to_an_empty_name_is_a_storage_error() -> None:
    with pytest.raises(StorageError, match=r"\.: Is a directory"):
        files.write_atomic(Path(), b"x")


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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
@pytest.mark.parametrize("write", [files.write_atomic, files.replace_unsynced])
def test_file_written_by_root_belongs_to_the_owner_of_its_folder(
    tmp_path: Path, write: Callable[[Path, bytes], None]
) -> None:
    path, owner, group = tmp_path / "home" / "token", 65_501, 65_502
    path.parent.mkdir()
    os.chown(path.parent, owner, group)
    path.touch(0o600)

    write(path, b"content")

    found = path.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (owner, group, 0o600)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes folders for others")
def test_folder_made_by_root_belongs_to_the_owner_of_the_folder_around_it(
    tmp_path: Path,
) -> None:
    home, owner, group = tmp_path / "home", 65_501, 65_502
    home.mkdir()
    os.chown(home, owner, group)

    files.make_folder(home / "peers" / "north")

    for made in (home / "peers", home / "peers" / "north"):
        assert (made.stat().st_uid, made.stat().st_gid) == (owner, group)
    assert (home / "peers" / "north").stat().st_mode & 0o777 == 0o700


def test_folder_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir(0o750)
    (tmp_path / "link").symlink_to("there")

    files.make_folder(tmp_path / "there")
    files.make_folder(tmp_path / "link")

    assert (tmp_path / "there").stat().st_mode & 0o777 == 0o750


def test_folder_where_a_file_is_in_the_way_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StorageError, match="file"):
            files.make_folder(folder)


def test_free_bytes_of_a_folder_is_positive_and_of_nothing_an_error(
    tmp_path: Path,
) -> None:
    assert files.free_bytes(tmp_path) > 0
    with pytest.raises(StorageError):
        files.free_bytes(tmp_path / "none")


def modes(folder: Path) -> dict[str, int]:
    """Permission bits of a folder and of all below it."""
    paths = (folder, *folder.rglob("*"))
    return {path.name: path.lstat().st_mode & 0o777 for path in paths}


def loose_home(folder: Path) -> Path:
    home = folder / "home"
    for name in (".", "data/old", "keys"):
        (home / name).mkdir(parents=True, mode=0o755)
    for name in ("status.json", "data/old/a.npz", "keys/seed"):
        (home / name).write_bytes(b"x")
    for path in (home, *home.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return home


def test_make_private_closes_all_but_what_is_left_alone(tmp_path: Path) -> None:
    home = loose_home(tmp_path)

    changed = files.make_private(home, leave=("keys",))

    assert modes(home) == {
        **{"home": 0o700, "data": 0o700, "old": 0o700, "keys": 0o700},
        **{"status.json": 0o600, "a.npz": 0o600, "seed": 0o644},
    }
    assert home in changed
    assert files.make_private(home, leave=("keys",)) == []


def test_make_private_leaves_only_folders_of_the_first_level(tmp_path: Path) -> None:
    deep = tmp_path / "data" / "keys"
    deep.mkdir(parents=True)
    (deep / "a.npz").touch()
    (deep / "a.npz").chmod(0o644)

    files.make_private(tmp_path, leave=("keys",))

    assert modes(tmp_path)["a.npz"] == 0o600


def test_make_private_follows_no_link(tmp_path: Path) -> None:
    outside, home = tmp_path / "outside", tmp_path / "home"
    outside.mkdir()
    (outside / "file").touch()
    (outside / "file").chmod(0o644)
    home.mkdir()
    (home / "link").symlink_to(outside)
    (home / "file").symlink_to(outside / "file")

    files.make_private(home)

    assert modes(outside)["file"] == 0o644


def test_make_private_leaves_others_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, other = loose_home(tmp_path), os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)

    assert files.make_private(home) == []


def test_private_files_are_made_private_and_the_umask_comes_back(
    tmp_path: Path,
) -> None:
    before = os.umask(0o022)
    try:
        with files.private_files():
            (tmp_path / "inside").write_bytes(b"")
        (tmp_path / "outside").write_bytes(b"")
    finally:
        os.umask(before)

    found = modes(tmp_path)
    assert (found["inside"], found["outside"]) == (0o600, 0o644)


def test_replace_unsynced_is_private_whatever_was_there(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    path.write_bytes(b"old")
    path.chmod(0o644)

    files.replace_unsynced(path, b"new")

    assert path.read_bytes() == b"new"
    assert modes(tmp_path)["status.json"] == 0o600


@pytest.mark.parametrize("remove", [True, False], ids=["removed", "replaced"])
def test_erasing_overwrites_what_was_under_the_name(
    tmp_path: Path, remove: bool
) -> None:
    path = tmp_path / "seed"
    path.write_bytes(b"secret")
    with path.open("rb") as held:
        with files.erasing(path):
            if remove:
                path.unlink()
            else:
                files.write_atomic(path, b"another")
        assert held.read() == bytes(6)
    assert remove or path.read_bytes() == b"another"


def test_erasing_touches_nothing_that_is_still_there(tmp_path: Path) -> None:
    path = tmp_path / "seed"
    path.write_bytes(b"secret")

    with pytest.raises(RuntimeError), files.erasing(path):
        raise RuntimeError
    with files.erasing(path):
        pass

    assert path.read_bytes() == b"secret"


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "disk full"),
        (errno.EROFS, "mount the disk for writing"),
        (errno.EACCES, "the user who owns it"),
        (errno.EMFILE, "LimitNOFILE="),
        (errno.EEXIST, "move that away"),
        (errno.EISDIR, "move the folder away"),
    ],
)
def test_refusal_says_what_to_do(number: int, said: str) -> None:
    assert said in files.refusal(OSError(number, os.strerror(number)))
