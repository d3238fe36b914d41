"""Table of public models in docs/models.md, and a summary of it.

A parameter count is *told* where it is the toolkit's own, or where a warning of the
compiler says what became of the difference.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.models.public_model import IDIOMS, LITE_INT8, QDQ

Row = Mapping[str, Any]
DOCS = Path(__file__).parents[2] / "docs" / "models.md"
MARKS = ("<!-- models -->", "<!-- /models -->")
_HEAD = ("model", "exporter", "parameters", "ours", "trains", "private", "MiB")
_TIMES = ("PyTorch, MiB", "step, ms", "private", "PyTorch", "Opacus")
_TOLERANCE = 1e-3
"""Of values that two runtimes compute in single precision, relative to the largest."""
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


def differs(row: Row) -> bool:
    """True if outputs, losses or norms are not the toolkit's, which it would be told.

    Eight bits differ by design; norms can only agree where the same values are trained.
    """
    if row["form"] in (LITE_INT8, QDQ):
        return False
    kinds = ["output_error", "loss_error"]
    kinds += ["norm_error"] if row.get("counted") == row.get("used") else []
    return any(row.get(kind, 0.0) > _TOLERANCE for kind in kinds)


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
    models, some, every = _models(forms)
    lines = [
        f"models: {models}, in some form {some}, in every {every}",
        f"exports: {len(forms)}, of them compiled and trained {len(good)}",
        f"silent differences: {[key for key in forms if silent(forms[key])]}",
        f"other values: {[key for key in forms if differs(forms[key])]}",
        f"fail: {sorted(forms.keys() - good)}",
        f"not exported: {sorted(rows.keys() - forms.keys())}",
    ]
    return "\n".join(lines) + "\n"


def _models(forms: Mapping[str, Row]) -> tuple[int, int, int]:
    """Models that were exported, that train in some form, and in every form."""
    names = {row["model"] for row in forms.values()}
    some = {row["model"] for row in forms.values() if compiles(row)}
    broken = {row["model"] for row in forms.values() if not compiles(row)}
    return len(names), len(some), len(names - broken)


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
    parts = [_verdict(rows)]
    head = (*_HEAD, *_TIMES) if timed else _HEAD
    for family in dict.fromkeys([row["family"] for row in rows.values()]):
        body = [row for row in rows.values() if row["family"] == family]
        parts.append(f"### {family[:1].upper()}{family[1:]}")
        if family == IDIOMS:
            parts += _idioms(body)
        else:
            parts.append(_table(head, [_cells(row, timed) for row in body]))
    return "\n\n".join([*parts, ""])


def _verdict(rows: Mapping[str, Row]) -> str:
    """What the tables come to, in a sentence each."""
    named = {k: row for k, row in rows.items() if row["family"] != IDIOMS}
    forms = {k: row for k, row in named.items() if exported(row)}
    models, some, every = _models(forms)
    good = sum(map(compiles, forms.values()))
    own = sum(
        [
            row.get("counted") in (row["parameters"], row["used"])
            for row in forms.values()
        ]
    )
    quiet = sum(map(silent, forms.values()))
    other = sum(map(differs, forms.values()))
    return (
        f"{models} models, {len(forms)} exports: {good} compile, train and train "
        f"privately; {some} models do in some form and {every} in every form that "
        f"their toolkit writes. {own} exports have the toolkit's own count, {quiet} "
        f"another one that nothing tells. {other} give other outputs, losses or norms "
        f"than the toolkit (beyond {_TOLERANCE:g})."
    )


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
    kinds = ("export_failed", "refused", "failed")
    said = next((row[kind] for kind in kinds if kind in row), "does not train")
    return " ".join(str(said).replace("|", "/").split())[:90]


def _cells(row: Row, timed: bool) -> tuple[str, ...]:
    cells = [row["model"], row["form"]]
    if not exported(row):
        cells += ["", f"not exportable: {_why(row)}"]
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
