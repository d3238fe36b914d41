"""A planted bug: one edit that voids a promise, and the tests that must notice it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One edit of one file.

    Attributes:
      name: What the bug does, in a few words.
      file: Path from the root of the project.
      old: Text that stands there exactly once.
      new: What takes its place.
      tests: Paths or node ids that pytest takes; at least one of them must fail.
      quick: Whether `make test` runs it too.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    quick: bool = False
