"""Configuration files: one dataclass is the schema, the documentation and the check.

A settings class is a frozen dataclass whose fields are made with `setting` (a value)
or `table` (a nested settings class). `load_settings` reads TOML into it and refuses
unknown keys, wrong kinds and values out of bounds, naming file, key and bound.
`sample` prints a commented file with every key, its unit, bounds and default.

A class with a key `config_version` reads files of later releases, too: what it does not
know there it leaves out, and `ignored_keys` names it. In a table that is `strict`
nothing is left out: a limit that is not kept is worse than a board that does not start.
"""

import json
import math
import re
import tomllib
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

from starling.protocol.errors import ConfigError

_T = TypeVar("_T")
_META = "starling"
_VERSION = "config_version"
_EXACT_MAX = 1 << 53
_HOST = re.compile(r"[^\s:/@%\[\]]{1,253}")
_KINDS = {int: "an integer", float: "a number", str: "a text", bool: "true or false"}


@dataclass(frozen=True)
class SettingMetadata:
    """Meaning and bounds of a configuration key.

    Attributes:
      doc: One sentence.
      least: Smallest allowed number.
      most: Largest allowed number.
      choices: All allowed texts, if there are few.
      strict: Whether a table's unknown keys are refused in a later release's file, too.
      host: Whether it is a name or an address to connect to.
    """

    doc: str
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    strict: bool = False
    host: bool = False

    def bounds(self) -> str:
        """The bounds as a person reads them; empty if there are none."""
        if self.choices:
            return " | ".join(self.choices)
        parts = [
            f"at least {self.least}" if self.least is not None else "",
            f"at most {self.most}" if self.most is not None else "",
        ]
        return ", ".join(part for part in parts if part)


def setting(
    default: Any,
    doc: str,
    *,
    least: float | None = None,
    most: float | None = None,
    choices: tuple[str, ...] = (),
    host: bool = False,
) -> Any:
    """A key of a settings class.

    Args:
      default: Value when the key is absent; `...` makes the key required.
      doc: One sentence with the unit and why the default is what it is.
      least: Smallest allowed number.
      most: Largest allowed number.
      choices: All allowed texts.
      host: Whether it is a name or an address to connect to, or empty.
    """
    meaning = {_META: SettingMetadata(doc, least, most, choices, host=host)}
    if default is ...:
        return field(metadata=meaning)
    return field(default=default, metadata=meaning)


def table(cls: type[_T], doc: str, *, strict: bool = False) -> Any:
    """A nested table; absent keys take their defaults.

    Args:
      cls: Its settings class.
      doc: One sentence.
      strict: Whether its unknown keys are refused in a later release's file, too.
    """
    meaning = SettingMetadata(doc, strict=strict)
    return field(default_factory=cls, metadata={_META: meaning})


def load_settings(cls: type[_T], text: str, file: str) -> _T:
    """Reads a TOML document.

    Args:
      cls: The settings class.
      text: The document.
      file: Its name, for messages.

    Raises:
      ConfigError: Naming file, key and bound.
    """
    document = _document(text, file)
    if _is_later(cls, document):
        document = _known_part(cls, document, "", [])
    return _build(cls, document, file, "")


def ignored_keys(cls: type[Any], text: str, file: str) -> tuple[str, ...]:
    """The dotted keys that `load_settings` leaves out of a later release's file.

    Args:
      cls: The settings class.
      text: The document.
      file: Its name, for messages.

    Raises:
      ConfigError: If it is not TOML.
    """
    document = _document(text, file)
    ignored: list[str] = []
    if _is_later(cls, document):
        _known_part(cls, document, "", ignored)
    return tuple(ignored)


def _document(text: str, file: str) -> dict[str, Any]:
    try:
        # Editors of other systems put a byte order mark before the text.
        return tomllib.loads(text.removeprefix("\ufeff"))
    # Its own error is one, and so is that of a number with too many digits.
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"not TOML: {error}", file=file) from error


def _is_later(cls: type[Any], document: dict[str, Any]) -> bool:
    ours = [entry.default for entry in _entries(cls) if entry.name == _VERSION]
    said = document.get(_VERSION)
    return bool(ours) and type(said) is int and said > ours[0]


def _known_part(
    cls: type[Any], document: dict[str, Any], prefix: str, ignored: list[str]
) -> dict[str, Any]:
    """Takes known keys of a later release's document; `ignored` gets the others."""
    kinds = get_type_hints(cls)
    entries = {entry.name: entry for entry in _entries(cls)}
    kept: dict[str, Any] = {}
    for key, raw in document.items():
        if key not in entries:
            ignored.append(prefix + key)
        elif (
            is_dataclass(kinds[key])
            and isinstance(raw, dict)
            and not entries[key].metadata[_META].strict
        ):
            inner = _class(kinds[key])
            kept[key] = _known_part(inner, raw, f"{prefix}{key}.", ignored)
        else:
            kept[key] = raw
    return kept


def _build(cls: type[_T], document: dict[str, Any], file: str, prefix: str) -> _T:
    kinds = get_type_hints(cls)
    known = [entry.name for entry in _entries(cls)]
    for key in document:
        if key not in known:
            detail = f"unknown key; {_hint(key, known)}"
            raise ConfigError(detail, file=file, key=prefix + key)
    values: dict[str, Any] = {}
    for entry in _entries(cls):
        key = prefix + entry.name
        kind = kinds[entry.name]
        if is_dataclass(kind):
            raw = document.get(entry.name, {})
            if not isinstance(raw, dict):
                raise ConfigError("expected a table", file=file, key=key)
            values[entry.name] = _build(_class(kind), raw, file, key + ".")
        elif entry.name in document:
            meaning = entry.metadata[_META]
            raw = document[entry.name]
            values[entry.name] = _value(kind, raw, meaning, file, key)
        elif entry.default is MISSING and entry.default_factory is MISSING:
            raise ConfigError("missing; it has no default", file=file, key=key)
    return cls(**values)


def _hint(key: str, known: list[str]) -> str:
    # Imported where it is needed, which is on no board that runs.
    from difflib import get_close_matches

    close = get_close_matches(key, known, 1)
    return f"did you mean {close[0]!r}?" if close else f"keys: {known}"


def _class(kind: Any) -> type[Any]:
    assert isinstance(kind, type)
    return kind


def _entries(cls: type[Any]) -> Iterator[Any]:
    return (entry for entry in fields(cls) if _META in entry.metadata)


def _value(kind: Any, raw: Any, meaning: SettingMetadata, file: str, key: str) -> Any:
    if kind == tuple[str, ...]:
        if not isinstance(raw, list) or not all(isinstance(i, str) for i in raw):
            raise ConfigError("expected a list of texts", file=file, key=key)
        return tuple(raw)
    if isinstance(raw, str) and "\0" in raw:
        # No path, host or name can hold it, and TOML can.
        raise ConfigError("expected a text without a NUL", file=file, key=key)
    if kind is float and type(raw) is int and abs(raw) <= _EXACT_MAX:
        raw = float(raw)
    # Not `isinstance`: in Python `true` is a number.
    if type(raw) is not kind or (kind is float and not math.isfinite(raw)):
        raise ConfigError(f"expected {_KINDS[kind]}", file=file, key=key)
    if meaning.host and raw and not _HOST.fullmatch(raw) and not _is_address(raw):
        detail = f"{raw!r} is no name or address alone, without port, scheme or zone"
        raise ConfigError(detail, file=file, key=key)
    if meaning.choices and raw not in meaning.choices:
        raise ConfigError(f"expected {meaning.bounds()}", file=file, key=key)
    # Written so that NaN is out of bounds.
    too_low = meaning.least is not None and not raw >= meaning.least
    too_high = meaning.most is not None and not raw <= meaning.most
    if too_low or too_high:
        raise ConfigError(f"{raw} is not {meaning.bounds()}", file=file, key=key)
    return raw


def _is_address(text: str) -> bool:
    """True for an address as a certificate can hold it, which is without a zone."""
    # Imported where it is needed: most settings hold a name, or nothing.
    from ipaddress import ip_address

    try:
        return "%" not in text and bool(str(ip_address(text)))
    except ValueError:
        return False


def sample(cls: type[Any], values: dict[str, Any] | None = None) -> str:
    """A commented TOML document with every key of a settings class.

    Args:
      cls: The settings class.
      values: By dotted key, what to write instead of a default.
    """
    return "\n".join(_sample_lines(cls, values or {}, "")) + "\n"


def _sample_lines(cls: type[Any], values: dict[str, Any], prefix: str) -> list[str]:
    kinds = get_type_hints(cls)
    lines: list[str] = []
    tables: list[str] = []
    for entry in _entries(cls):
        meaning: SettingMetadata = entry.metadata[_META]
        key = prefix + entry.name
        if is_dataclass(kinds[entry.name]):
            tables += ["", f"# {meaning.doc}", f"[{key}]"]
            tables += _sample_lines(_class(kinds[entry.name]), values, key + ".")
            continue
        bounds = meaning.bounds()
        lines.append(f"# {meaning.doc}" + (f" ({bounds})" if bounds else ""))
        if key in values or entry.default is not MISSING:
            shown = values.get(key, entry.default)
            lines.append(f"{entry.name} = {toml_value(shown)}")
        else:
            lines.append(f"# {entry.name} =   # required")
    return lines + tables


def toml_value(value: Any) -> str:
    """A value as TOML writes it."""
    # First, as `repr` would write a bool in Python's letters.
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, str):
        # A JSON text is a TOML text but for one character.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)
