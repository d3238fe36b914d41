"""Equations of Einsum, spelt out: a letter for each axis of each tensor.

Source: the operator Einsum of ONNX, which is NumPy's.
"""

from collections.abc import Sequence
from string import ascii_letters

_REST = "..."


def spelt(equation: str, ranks: Sequence[int]) -> tuple[list[str], str] | None:
    """The letters of each tensor and of the result.

    Args:
      equation: With or without a result, and with "..." for any axes.
      ranks: Of the tensors.

    Returns:
      None if the equation does not fit the tensors, or has no room for more letters.
    """
    left, arrow, result = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    fresh = [letter for letter in ascii_letters if letter not in equation]
    missing = [
        rank - len(term.replace(_REST, "")) if _REST in term else 0
        for term, rank in zip(terms, ranks, strict=False)
    ]
    most = max(missing, default=0)
    if len(terms) != len(ranks) or min(missing) < 0 or most > len(fresh):
        return None
    rest = "".join(fresh[:most])
    terms = [
        # As broadcasting does, axes of "..." line up from the last.
        term.replace(_REST, rest[most - count :])
        for term, count in zip(terms, missing, strict=True)
    ]
    if not arrow:
        joined = "".join(terms)
        # NumPy's implicit result: each letter that stands once, in alphabetical order.
        once = [c for c in sorted({*joined}) if joined.count(c) == 1 and c not in rest]
        result = rest + "".join(once)
    result = result.replace(_REST, rest)
    fits = all(len(term) == rank for term, rank in zip(terms, ranks, strict=True))
    known = {*"".join(terms)} >= {*result} and len({*result}) == len(result)
    plain = all(letter in ascii_letters for term in terms for letter in term)
    return (terms, result) if fits and known and plain else None
