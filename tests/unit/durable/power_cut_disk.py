"""A disk that loses power: what was not synced may be there, torn, nulled or gone."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest


class PowerCut(BaseException):
    """The machine stops here; nothing in the code under test may catch it."""


class PowerCutDisk:
    """Counts the changes that a program makes to a disk, and stops at one of them.

    Attributes:
      steps: Changes made so far.
    """

    def __init__(self, patch: pytest.MonkeyPatch, cut_at: int) -> None:
        self.steps = 0
        self._cut_at = cut_at
        self._synced: dict[Path, bytes] = {}
        self._dirty: set[Path] = set()
        self._renames: list[tuple[Path, Path, bytes | None]] = []
        for name in ("write", "ftruncate"):
            patch.setattr(os, name, self._counted(getattr(os, name), self._spoil))
        for name in ("fsync", "fdatasync"):
            patch.setattr(os, name, self._counted(getattr(os, name), self._sync))
        patch.setattr(os, "replace", self._counted(os.replace, self._rename))

    def _counted(
        self, real: Callable[..., object], note: Callable[..., None]
    ) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            if self.steps == self._cut_at:
                raise PowerCut
            self.steps += 1
            note(*arguments)
            return real(*arguments)

        return call

    def _spoil(self, descriptor: int, _: object) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        self._synced.setdefault(path, path.read_bytes())
        self._dirty.add(path)

    def _sync(self, descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.is_dir():
            self._renames.clear()
        else:
            self._dirty.discard(path)
            self._synced.pop(path, None)

    def _rename(self, source: Path, target: Path) -> None:
        old = target.read_bytes() if target.exists() else None
        self._renames.append((source, target, old))
        self._move(source, target)

    def _move(self, source: Path, target: Path) -> None:
        self._synced.pop(target, None)
        self._dirty.discard(target)
        if source in self._dirty:
            self._dirty.discard(source)
            self._dirty.add(target)
            self._synced[target] = self._synced.pop(source)

    def lose(self, keep: float, null_filled: bool, undo_renames: bool) -> None:
        """Takes away what was not synced when the power went.

        Args:
          keep: Share of each file's unsynced growth that reached the disk.
          null_filled: Whether the rest has its length but not its content.
          undo_renames: Whether renames without a synced folder are undone.
        """
        for path in sorted(self._dirty):
            old, new = self._synced[path], path.read_bytes()
            cut = len(old) + int((len(new) - len(old)) * keep)
            rest = bytes(max(len(new) - cut, 0)) if null_filled else b""
            path.write_bytes(new[:cut] + rest)
        if not undo_renames:
            return
        for source, target, old_target in reversed(self._renames):
            target.replace(source)
            if old_target is not None:
                target.write_bytes(old_target)
