"""Tokens with which operators sign in to a console; only their hashes are kept.

A token is `ID.SECRET`: the id names the row, so that one try costs one hash, and the
secret has 256 random bits. Rows end by themselves; who is given a token is told once.

Source: RFC 9106 on Argon2id, by libsodium's crypto_pwhash_str.
"""

import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from nacl import exceptions, pwhash

from starling.coordinator.runtime.home import CoordinatorHome
from starling.durable.files import make_folder, read_if_present, write_atomic
from starling.durable.locks import wait_for_lock
from starling.protocol.errors import ConfigError, OperationError, StorageError

FILE = "console-tokens.json"
DAYS, DAYS_MAX = 90, 366
TOKENS_MAX = 64
NAME_CHARS_MAX = 64
TOKEN_CHARS_MAX = 128
"""What is longer is not hashed."""
_FILE_BYTES_MAX = 1 << 16
_ID_BYTES, _SECRET_BYTES = 4, 32
_DAY_S = 86_400


@dataclass(frozen=True)
class OperatorToken:
    """A row of the file.

    Attributes:
      id: In hex; no secret.
      name: Of the person.
      hash: Argon2id of the secret, with salt and cost.
      made_s: Unix time.
      until_s: Unix time from which on it is worth nothing.
    """

    id: str
    name: str
    hash: str
    made_s: int
    until_s: int

    def document(self) -> dict[str, str | int]:
        """All but the hash, for JSON."""
        return {key: value for key, value in asdict(self).items() if key != "hash"}


def tokens_file(home: CoordinatorHome) -> Path:
    """Path of the hashes."""
    return home.keys / FILE


def read_tokens(file: Path) -> tuple[OperatorToken, ...]:
    """Rows of a file, also those whose time is over; none if there is no file.

    Raises:
      StorageError: If it is damaged.
    """
    content = read_if_present(file, _FILE_BYTES_MAX)
    if content is None:
        return ()
    try:
        rows = json.loads(content)
        return tuple(
            OperatorToken(
                str(row["id"]),
                str(row["name"]),
                str(row["hash"]),
                int(row["made_s"]),
                int(row["until_s"]),
            )
            for row in rows
        )
    except (ValueError, LookupError, TypeError) as error:
        raise StorageError(f"{file}: damaged; remove it and make new tokens") from error


def make_token(
    home: CoordinatorHome, name: str, days: int, now_s: float
) -> tuple[OperatorToken, str]:
    """Makes a token.

    Args:
      home: Of the coordinator.
      name: Of the person.
      days: That it lasts.
      now_s: Unix time.

    Returns:
      Its row, and the token itself, which is nowhere else.

    Raises:
      ConfigError: Naming the bound that is broken.
      StorageError: If the file is damaged, or the disk refuses.
    """
    if not (0 < len(name) <= NAME_CHARS_MAX and name.isprintable()):
        raise ConfigError(f"1 to {NAME_CHARS_MAX} letters", key="--name")
    if not 1 <= days <= DAYS_MAX:
        raise ConfigError(f"1 to {DAYS_MAX}", key="--days")
    identity, secret = (
        secrets.token_hex(_ID_BYTES),
        secrets.token_urlsafe(_SECRET_BYTES),
    )
    made = OperatorToken(
        identity, name, _hash(secret), int(now_s), int(now_s) + days * _DAY_S
    )
    file = tokens_file(home)
    with wait_for_lock(_lock(home)):
        # Those whose time is over make room.
        kept = [row for row in read_tokens(file) if row.until_s > now_s]
        if len(kept) >= TOKENS_MAX:
            raise ConfigError(
                f"{TOKENS_MAX} tokens are the most; revoke one", file=str(file)
            )
        _write(file, [*kept, made])
    return made, f"{identity}.{secret}"


def revoke_token(home: CoordinatorHome, identity: str) -> OperatorToken:
    """Ends a token now.

    Raises:
      OperationError: If there is none of that id.
      StorageError: If the file is damaged, or the disk refuses.
    """
    file = tokens_file(home)
    with wait_for_lock(_lock(home)):
        rows = read_tokens(file)
        found = next((row for row in rows if row.id == identity), None)
        if found is None:
            raise OperationError(
                f"there is no token {identity}; see: starling coordinator token list"
            )
        _write(file, [row for row in rows if row is not found])
    return found


def token_of(
    rows: Sequence[OperatorToken], given: str, now_s: float
) -> OperatorToken | None:
    """The row whose token it is; takes as long if there is none.

    Args:
      rows: Of the file.
      given: What somebody says is a token.
      now_s: Unix time.
    """
    identity, _, secret = given[:TOKEN_CHARS_MAX].partition(".")
    found = next((row for row in rows if row.id == identity), None)
    hashed = _nobody() if found is None else found.hash
    try:
        is_secret = pwhash.verify(hashed.encode(), secret.encode())
    except (exceptions.InvalidkeyError, exceptions.CryptPrefixError, ValueError):
        return None
    # Only now, so that an overlong one costs as much as a wrong one.
    is_good = is_secret and len(given) <= TOKEN_CHARS_MAX
    return found if is_good and found is not None and now_s < found.until_s else None


def _hash(secret: str) -> str:
    return pwhash.argon2id.str(
        secret.encode(),
        # Low, since nobody guesses a secret of 256 random bits at any cost.
        pwhash.argon2id.OPSLIMIT_INTERACTIVE,
        pwhash.argon2id.MEMLIMIT_INTERACTIVE,
    ).decode()


@cache
def _nobody() -> str:
    """Hash that nobody knows the secret of."""
    return _hash(secrets.token_urlsafe(_SECRET_BYTES))


def _lock(home: CoordinatorHome) -> Path:
    home.config()
    make_folder(home.state)
    return home.state / "console-tokens.lock"


def _write(file: Path, rows: Sequence[OperatorToken]) -> None:
    write_atomic(file, (json.dumps([asdict(row) for row in rows]) + "\n").encode())
