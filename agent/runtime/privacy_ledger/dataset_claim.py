"""Claim of a ledger on a data set: a small file beside the data.

The budget is the data set's, and its ledger lies in one home. A second home on the same
folder, or on a copy of it, would begin to count anew; the file's id tells it that the
data have a ledger already. A folder that cannot be written to, such as a read-only
mount, is remembered in the home by its device and inode; then nothing but the owner
keeps a second home from it, and the status says so.
"""

import errno
import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from enum import Enum
from pathlib import Path

from starling.durable.files import read_if_present, write_atomic
from starling.protocol.errors import ConfigError, LimitError, StorageError

FILE = ".starling-data.json"
KEPT_FILE = "data.json"
"""In a home's `state/`, of folders that cannot be written to."""
_BYTES_MAX = 4096
_FORMAT = 1
_UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)


class ClaimLocation(Enum):
    """Location of a claim; the value is what the operator reads."""

    NOWHERE = "no folder"
    BESIDE = "beside the data"
    AT_HOME = "in the home, since the data's folder cannot be written to"


@dataclass(frozen=True)
class DataSetClaim:
    """Owner of a data set.

    Attributes:
      ledger: Id of the ledger that counts it, in hexadecimal.
      home: Where that ledger was when it took the data set; to find it by.
    """

    ledger: str
    home: str


def claim_file(folder: Path) -> Path:
    """Path of a data set's claim."""
    return folder / FILE


def read_claim(folder: Path) -> DataSetClaim | None:
    """Claim on a folder's data set; None without one.

    Raises:
      ConfigError: If the file is there and says nothing: it must have been a claim.
      StorageError: If the disk refuses.
    """
    path = claim_file(folder)
    try:
        content = read_if_present(path, _BYTES_MAX)
        claim = None if content is None else _parsed(content)
    except (LimitError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise ConfigError(
            "is damaged, so that it is not known which ledger counts the data set; "
            "put it back, or run: starling agent recount --as-fully-spent",
            file=str(path),
        ) from error
    return claim


def _parsed(content: bytes) -> DataSetClaim:
    document = json.loads(content)
    if document["format"] != _FORMAT:
        raise ValueError(document["format"])
    # An id that is none would look like another ledger's.
    bytes.fromhex(document["ledger"])
    return DataSetClaim(str(document["ledger"]), str(document["home"]))


def write_claim(folder: Path, claim: DataSetClaim, state: Path) -> ClaimLocation:
    """Says durably whose a data set is.

    Args:
      folder: Of the data set.
      claim: Whose.
      state: The home's folder for what must not be forgotten.

    Returns:
      Where it stands now.

    Raises:
      StorageError: If the disk refuses.
    """
    if not folder.is_dir():
        return ClaimLocation.NOWHERE
    content = json.dumps({"format": _FORMAT, **asdict(claim)}).encode() + b"\n"
    try:
        write_atomic(claim_file(folder), content)
    except StorageError as error:
        cause = error.__cause__
        # A full disk passes; only what stays unwritable is remembered elsewhere.
        if not isinstance(cause, OSError) or cause.errno not in _UNWRITABLE:
            raise
        return _keep_at_home(folder, claim, state / KEPT_FILE)
    return ClaimLocation.BESIDE


def _keep_at_home(folder: Path, claim: DataSetClaim, path: Path) -> ClaimLocation:
    stat = folder.stat()
    kept = {"device": stat.st_dev, "inode": stat.st_ino, "ledger": claim.ledger}
    known = read_if_present(path, _BYTES_MAX)
    with suppress(ValueError, LookupError, TypeError):
        before = json.loads(known or b"{}")
        # A path alone would take another disk that is mounted there for the same data
        # set.
        same = all(before[key] == kept[key] for key in ("device", "inode"))
        if same and before["ledger"] != claim.ledger:
            raise ConfigError(
                f"the data set in {folder} was counted by another ledger here: it was "
                "emptied; run: starling agent recount",
                file=str(path),
            )
    write_atomic(path, json.dumps(kept).encode() + b"\n")
    return ClaimLocation.AT_HOME


def take(folder: Path, ledger: bytes, home: Path) -> ClaimLocation:
    """Claims a data set for a ledger, unless it is another one's.

    Args:
      folder: Of the data set; if there is none, nothing is claimed.
      ledger: The ledger's id.
      home: The home that it lies in.

    Raises:
      ConfigError: If it is another ledger's; names the way out.
      StorageError: If the disk refuses.
    """
    known, ours = read_claim(folder), DataSetClaim(ledger.hex(), str(home.absolute()))
    # The second condition: the claim is this ledger's, from before its home moved.
    if known is None or known == replace(ours, home=known.home) != ours:
        return write_claim(folder, ours, home / "state")
    if known.ledger != ours.ledger:
        raise ConfigError(
            f"this data set is counted by the ledger of {known.home}, and not by the "
            "one here: two ledgers would spend its budget twice, and one that was "
            "emptied would spend it again. To move the data set to this home with all "
            f"that was paid, run: starling agent recount --home {home} --take-data",
            file=str(claim_file(folder)),
        )
    return ClaimLocation.BESIDE
