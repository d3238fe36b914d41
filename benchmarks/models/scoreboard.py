"""Table of public models in docs/models.md, and a summary of it.

A parameter count is *told* where it is the toolkit's own, or where a warning of the
compiler says what became of the difference.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
DOCS = Path(__file__).parents[2] / "docs" / "models.md"
MARKS = ("<!-- models -->", "<!-- /models -->")
_HEAD = (
    "model", "exporter", "parameters", "ours", "trains", "private", "MiB", "PyTorch",
    "step, ms", "private", "PyTorch", "Opacus",
)  # fmt: skip


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


def write_docs(rows: Mapping[str, Row]) -> None:
    """Puts the tables between the marks of docs/models.md."""
    before, _, rest = DOCS.read_text().partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    DOCS.write_text(f"{before}{MARKS[0]}\n\n{_tables(rows)}{MARKS[1]}{after}")


def _tables(rows: Mapping[str, Row]) -> str:
    parts = []
    for family in dict.fromkeys([row["family"] for row in rows.values()]):
        body = [row for row in rows.values() if row["family"] == family]
        lines = [_line(_HEAD), _line(("---",) * len(_HEAD)), *map(_cells, body)]
        parts.append(
            f"### {family[:1].upper()}{family[1:]}\n\n" + "\n".join(lines) + "\n\n"
        )
    return "".join(parts)


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(row: Row) -> str:
    head = (row["model"], row["form"])
    if not exported(row):
        return _line((*head, "not exportable", *[""] * (len(_HEAD) - 3)))
    if "counted" not in row:
        why = row.get("refused") or row.get("failed", "")
        return _line((*head, f"{row['used']:,}", f"refused: {why[:90]}", *[""] * 8))
    peer = row.get("peer", {})
    count = f"{row['counted']:,}"
    if row["counted"] not in (row["parameters"], row["used"]):
        count += " (silent)" if silent(row) else " (told)"
    return _line(
        (
            *head,
            f"{row['used']:,}",
            count,
            "yes" if row.get("trains") else "no",
            "yes" if row.get("private") else "no",
            _number(row.get("peak_mib"), 1, 0),
            _number(peer.get("peak_mib"), 1, 0),
            _number(row.get("step_s") if peer else None),
            _number(row.get("private_step_s") if peer else None),
            _number(peer.get("step_s")),
            _number(peer.get("private_step_s")),
        )
    )


def _number(value: float | None, scale: float = 1000.0, digits: int = 2) -> str:
    return "" if value is None else f"{value * scale:,.{digits}f}"
