"""Commands as pages write them: in blocks and in code spans of Markdown.

A block is fenced, or indented by four columns. A command there may go on after a
backslash, have a prompt, a comment, `sudo`, variables and redirections, stand in a
loop, in `$(...)` or between pipes, and leave out what it has in square brackets.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").rglob("*.md"),
    ]
)
_FENCE = re.compile(r"^ *```")
_SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_INNER = re.compile(r"[$<]\(([^()]*)\)")
_OPTIONAL = re.compile(r"\[([^\[\]]*)\]")
_ENDS = re.compile(r"[;&|()]+")
_REDIRECTIONS = re.compile(r"\d?[<>]+&?|[<>]+&?")
_LEADING = frozenset(
    ("$", "#", "do", "then", "else", "exec", "time", "!", "{", "watch")
)
_ASSIGNMENT = re.compile(r"[A-Z_]+=.*", re.DOTALL)
_USER_FLAGS = frozenset(("-u", "-g"))


@dataclass(frozen=True)
class WrittenCommand:
    """One simple command of a page.

    Attributes:
      place: Page and line, as editors take them.
      words: The command's words, without what stands before its program.
      is_whole: Whether it stands in a block; a code span may leave out what the text
        around it says.
    """

    place: str
    words: tuple[str, ...]
    is_whole: bool


def written_commands(text: str, name: str) -> Iterator[WrittenCommand]:
    """Every simple command in a page's blocks and code spans.

    Args:
      text: The page.
      name: That places begin with.
    """
    blocks, prose = _parted(text)
    for line, command in blocks:
        for words in simple_commands(command):
            yield WrittenCommand(f"{name}:{line}", words, is_whole=True)
    for span in _SPAN.finditer(prose):
        line = prose.count("\n", 0, span.start()) + 1
        for words in simple_commands(" ".join(span[1].split())):
            yield WrittenCommand(f"{name}:{line}", words, is_whole=False)


def simple_commands(command: str) -> Iterator[tuple[str, ...]]:
    """Words of each simple command of a line of shell, also of those in `$(...)`."""
    while inner := _INNER.search(command):
        yield from simple_commands(inner[1])
        command = f"{command[: inner.start()]}$OUTPUT{command[inner.end() :]}"
    for line in _without_brackets(command):
        for words in _parts(line):
            if left := _from_program(words):
                yield left


def _parted(text: str) -> tuple[list[tuple[int, str]], str]:
    """Lines of blocks with their numbers, and the page with these lines empty."""
    blocks: list[tuple[int, str]] = []
    prose: list[str] = []
    fenced = goes_on = False
    for number, line in enumerate(text.splitlines(), 1):
        if _FENCE.match(line):
            fenced, goes_on = not fenced, False
            prose.append("")
        elif fenced or line.startswith("    "):
            if goes_on:
                first, begun = blocks.pop()
                blocks.append((first, f"{begun[:-1]} {line.strip()}"))
            else:
                blocks.append((number, line.strip()))
            goes_on = line.endswith("\\")
            prose.append("")
        else:
            prose.append(line)
    return blocks, "\n".join(prose)


def _without_brackets(command: str) -> Iterator[str]:
    """The command without what it may leave out, then with each alternative of it."""
    optional = _OPTIONAL.findall(command)
    yield _OPTIONAL.sub(" ", command) if optional else command
    for words in optional:
        for alternative in words.split("|"):
            yield f"{_OPTIONAL.sub(' ', command)} {alternative}"


def _parts(line: str) -> Iterator[list[str]]:
    """Words between the shell's operators, without redirections and comments."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|()<>")
    lexer.whitespace_split = True
    try:
        tokens = list(lexer)
    except ValueError:  # An apostrophe of prose: no command.
        return
    words: list[str] = []
    skips = False
    for token in tokens:
        if skips:
            skips = False
        elif _REDIRECTIONS.fullmatch(token):
            if words and words[-1] in {"1", "2"}:
                words.pop()
            skips = True
        elif _ENDS.fullmatch(token):
            yield words
            words = []
        else:
            words.append(token)
    yield words


def _from_program(words: list[str]) -> tuple[str, ...]:
    """The words from the program on, which others may start in their name."""
    left = list(words)
    while left:
        if left[0] in _LEADING or _ASSIGNMENT.fullmatch(left[0]):
            del left[0]
        elif left[0] == "sudo":
            del left[: 3 if left[1:2] and left[1] in _USER_FLAGS else 1]
        elif left[0] == "docker" and "starling" in left:
            del left[: left.index("starling")]
        else:
            break
    return tuple(left)
