"""Redaction of errors: messages without what the failure may have seen.

Libraries quote their input: "could not convert string to float: '36.6'", "indices
element out of data bounds, idx=212". Status and log keep what helps, and no value.
"""

import re

from starling.protocol.errors import ConfigError, FederationError, StorageError

_STATUS = "Status Message:"
"""ONNX Runtime: what stands before it is about the graph, behind it about the data."""
_QUOTED = re.compile(r"""'[^']*'|"[^"]*\"|`[^`]*`""")
_NUMBER = re.compile(
    r"[-+]?(?:\d+(?:[.,]\d+)*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?\b(?:nan|inf)\b"
)
_HIDDEN = "?"


def without_values(text: str) -> str:
    """A library's message with every quotation and number taken out."""
    kept = text.partition(_STATUS)[0]
    return _NUMBER.sub(_HIDDEN, _QUOTED.sub(_HIDDEN, kept)).strip()


def described(error: Exception) -> str:
    """Text of an error that came up while records were at hand.

    File, row and key stay; the disk's errors name a file and nothing that is in it. Of
    what is none of our own errors the kind is left.
    """
    match error:
        case StorageError():
            return str(error)
        case ConfigError():
            detail = without_values(error.detail)
            return str(ConfigError(detail, file=error.file, key=error.key))
        case FederationError():
            return without_values(str(error))
        case _:
            return type(error).__name__
