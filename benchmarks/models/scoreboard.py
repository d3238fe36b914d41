"""Table of public models in docs/models.md, and a summary of it.

A parameter count is *told* where it is the toolkit's own, or where a warning of the
compiler says what became of the difference.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.models.public_model import IDIOMS

Row = Mapping[str, Any]
DOCS = Path(__file__).parents[2] / "docs" / "models.md"
MARKS = ("<!-- models -->", "<!-- /models -->")
_HEAD = ("model", "exporter", "parameters", "ours", "trains", "private", "MiB")
_TIMES = ("PyTorch, MiB", "step, ms", "private", "PyTorch", "Opacus")
_COUNTS = ("exporter", "idioms", "exported", "compile and train", "silent")


def compiles(row: Row) -> bool:
    """True if a bundle came out and trained."""
    return bool(row.get("trains")) and bool(row.get("private"))


def exported(row: Row) -> bool:
    """True if the toolkit itself could write an ONNX file."""
    return "export_failed" not in row


def silent(row: Row) -> bool:
    """True if the count differs from the toolkit's and nothing was said."""
    if "counted" not in row:
        return False
    return row["counted"] not in (row["parameters"], row["used"]) and not row["notes"]


def told(key: str, row: Row) -> str:
    """One line about one model in one form, for the terminal."""
    for reason in ("export_failed", "failed", "refused"):
        if reason in row:
            return f"{key}: {reason}: {row[reason]}"
    errors = [f"{k} {row[k]:.1e}" for k in row if k.endswith("_error")]
    verdict = "trains" if compiles(row) else "DOES NOT TRAIN"
    mark = " SILENT" if silent(row) else ""
    return (
        f"{key}: {verdict}, {row['counted']:,} of {row['used']:,}{mark}, "
        f"{row['compile_s']} s, {', '.join(errors)}"
    )


def summary(rows: Mapping[str, Row]) -> str:
    """Counts of models and forms, with the names of those that fail."""
    forms = {key: row for key, row in rows.items() if exported(row)}
    good = {key for key, row in forms.items() if compiles(row)}
    models = {row["model"] for row in forms.values()}
    whole = {row["model"] for key, row in forms.items() if key in good}
    broken = {row["model"] for key, row in forms.items() if key not in good}
    lines = [
        f"models: {len(models)}, in some form {len(whole)}, "
        f"in every {len(models - broken)}",
        f"exports: {len(forms)}, of them compiled and trained {len(good)}",
        f"silent differences: {[key for key in forms if silent(forms[key])]}",
        f"fail: {sorted(forms.keys() - good)}",
        f"not exported: {sorted(rows.keys() - forms.keys())}",
    ]
    return "\n".join(lines) + "\n"


def write_docs(rows: Mapping[str, Row], *, timed: bool = False) -> None:
    """Puts the tables between the marks of docs/models.md.

    Args:
      rows: What was tried.
      timed: Whether the machine was quiet, so that times say something.
    """
    before, _, rest = DOCS.read_text().partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    DOCS.write_text(f"{before}{MARKS[0]}\n\n{_tables(rows, timed)}{MARKS[1]}{after}")


def _tables(rows: Mapping[str, Row], timed: bool) -> str:
    parts = []
    head = (*_HEAD, *_TIMES) if timed else _HEAD
    for family in dict.fromkeys([row["family"] for row in rows.values()]):
        body = [row for row in rows.values() if row["family"] == family]
        parts.append(f"### {family[:1].upper()}{family[1:]}")
        if family == IDIOMS:
            parts += _idioms(body)
        else:
            parts.append(_table(head, [_cells(row, timed) for row in body]))
    return "\n\n".join([*parts, ""])


def _idioms(body: list[Row]) -> list[str]:
    """Counts by exporter, and what does not compile."""
    counts, left = [], []
    for form in dict.fromkeys([row["form"] for row in body]):
        mine = [row for row in body if row["form"] == form]
        done = [row for row in mine if exported(row)]
        good = [row for row in done if compiles(row)]
        sizes = (len(mine), len(done), len(good), sum(map(silent, done)))
        counts.append((form, *map(str, sizes)))
        left += [(row["model"], form, _why(row)) for row in done if not compiles(row)]
    parts = [_table(_COUNTS, counts)]
    return [*parts, _table(("idiom", "exporter", "why not"), left)] if left else parts


def _table(head: tuple[str, ...], body: Sequence[tuple[str, ...]]) -> str:
    rows = [head, ("---",) * len(head), *body]
    return "\n".join([f"| {' | '.join(cells)} |" for cells in rows])


def _why(row: Row) -> str:
    said = row.get("refused") or row.get("failed") or "does not train"
    return " ".join(str(said).replace("|", "/").split())[:90]


def _cells(row: Row, timed: bool) -> tuple[str, ...]:
    cells = [row["model"], row["form"]]
    if not exported(row):
        cells.append("not exportable")
    elif "counted" not in row:
        cells += [f"{row['used']:,}", f"refused: {_why(row)}"]
    else:
        count = f"{row['counted']:,}"
        if row["counted"] not in (row["parameters"], row["used"]):
            count += " (silent)" if silent(row) else " (told)"
        verdicts = ["yes" if row.get(key) else "no" for key in ("trains", "private")]
        memory = _number(row.get("peak_mib"), 1, 0)
        cells += [f"{row['used']:,}", count, *verdicts, memory]
        cells += _times(row) if timed else []
    width = len(_HEAD) + len(_TIMES) * timed
    return (*cells, *[""] * (width - len(cells)))


def _times(row: Row) -> list[str]:
    """Memory and times of the peer, and ours where it was timed beside us."""
    peer = row.get("peer", {})
    return [
        _number(peer.get("peak_mib"), 1, 0),
        _number(row.get("step_s") if peer else None),
        _number(row.get("private_step_s") if peer else None),
        _number(peer.get("step_s")),
        _number(peer.get("private_step_s")),
    ]


def _number(value: float | None, scale: float = 1000.0, digits: int = 2) -> str:
    return "" if value is None else f"{value * scale:,.{digits}f}"
