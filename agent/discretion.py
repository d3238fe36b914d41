"""What is said of a failure, without what the failure may have seen.

Libraries quote their input: "could not convert string to float: '36.6'", "indices
element out of data bounds, idx=212". Status and log keep what helps, and no value.
"""

import re

from protocol.errors import FederationError, StorageError

_STATUS = "Status Message:"
"""ONNX Runtime: what stands before it is about the graph, behind it about the data."""
_QUOTED = re.compile(r"""'[^']*'|"[^"]*\"|`[^`]*`""")
_NUMBER = re.compile(r"[-+]?(?:\d[\d.,]*|\.\d+)(?:[eE][-+]?\d+)?|\b(?:nan|inf)\b")
_HIDDEN = "?"


def without_values(text: str) -> str:
    """A library's message with every quotation and number taken out."""
    kept = text.partition(_STATUS)[0]
    return _NUMBER.sub(_HIDDEN, _QUOTED.sub(_HIDDEN, kept)).strip()


def described(error: FederationError) -> str:
    """What may be said of an error that came up while records were at hand.

    The disk's errors name a file and nothing that is in it; they stay as they are.
    """
    text = str(error)
    return text if isinstance(error, StorageError) else without_values(text)
