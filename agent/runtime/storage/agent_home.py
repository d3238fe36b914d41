"""The agent's home: where everything of one board lies, and how it is begun.

agent.toml                what the owner wants
admission.json            whom the board trusts, where the broker is
enrolment-request.json    for the operator
keys/                     secret; readable by the owner alone
tls/                      certificates of the broker's authority and of the board
data/                     the data set, unless agent.toml says otherwise
models/                   bundles, models, `current.json`, the board's own parameters
spool/                    updates that wait for their proof
proofs/                   of updates that are final
labels/                   drawn labels, of tasks that have labels drawn
state/                    trust, privacy journal, index, lock
status.json               for `starling agent status`
"""

import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starling.agent.config import FILE, AgentConfig
from starling.broker.link_events import TlsFiles
from starling.broker.runtime.tls_key import write_tls_key
from starling.durable.files import (
    is_there,
    make_folder,
    make_private,
    read_configured,
    read_limited,
    require_private,
    require_writable,
    storage_errors,
    write_atomic,
)
from starling.protocol.chain.enrolment import (
    DOCUMENT_BYTES_MAX,
    Admission,
    admission_from_json,
    request_enrolment,
)
from starling.protocol.crypto.keys import SEED_BYTES, SigningKey
from starling.protocol.errors import ConfigError, LimitError, ProtocolError
from starling.protocol.ids import (
    DEVICE_ID_BYTES,
    KEY_BYTES,
    DeviceId,
    Digest,
    device_name,
)
from starling.protocol.schema.toml_settings import (
    ignored_keys,
    load_settings,
    sample,
)

CONFIG_BYTES_MAX = 1 << 20
_FOLDERS = ("keys", "tls", "models", "spool", "state", "labels")
_NEEDED = ("models", "spool", "state")
"""Of these; a home of an older release may lack others until they are used."""


@dataclass(frozen=True)
class AgentHome:
    """The paths of one agent's home."""

    path: Path

    @property
    def config_file(self) -> Path:
        """Path of the owner's settings."""
        return self.path / FILE

    @property
    def seed_file(self) -> Path:
        """The seed of the key that signs updates: 32 raw bytes."""
        return self.path / "keys" / "device.seed"

    @property
    def identity_file(self) -> Path:
        """The board's id, 16 raw bytes, once its key is no longer its first."""
        return self.path / "keys" / "device.id"

    def identity(self) -> DeviceId:
        """The board's id, which its first key gave it.

        Raises:
          ConfigError: As `signing_key`, or if the file that keeps it is damaged.
        """
        known = read_configured(self.identity_file, DEVICE_ID_BYTES)
        if known is None:
            return self.signing_key().identity
        if len(known) != DEVICE_ID_BYTES:
            raise ConfigError(
                "is no id of 16 bytes; put a copy back", file=str(self.identity_file)
            )
        return DeviceId(known)

    @property
    def tls(self) -> TlsFiles:
        """Files that the link authenticates with."""
        folder = self.path / "tls"
        key = self.path / "keys" / "tls.pem"
        return TlsFiles(folder / "authority.pem", folder / "certificate.pem", key)

    @property
    def tls_public_file(self) -> Path:
        """The public key of `tls.key`: 32 raw bytes."""
        return self.path / "tls" / "public.key"

    @property
    def request_file(self) -> Path:
        """For the operator."""
        return self.path / "enrolment-request.json"

    @property
    def admission_file(self) -> Path:
        """From the operator."""
        return self.path / "admission.json"

    @property
    def task_file(self) -> Path:
        """See `FollowedTask`; there once the board has changed over to another task."""
        return self.state / "task"

    @property
    def status_file(self) -> Path:
        """Path of the running agent's status."""
        return self.path / "status.json"

    @property
    def ended_file(self) -> Path:
        """Reason of the last run's end, if it was a fault."""
        return self.state / "ended"

    @property
    def models(self) -> Path:
        """Blobs by digest."""
        return self.path / "models"

    @property
    def spool(self) -> Path:
        """Updates that wait."""
        return self.path / "spool"

    @property
    def proofs(self) -> Path:
        """Of updates that are final."""
        return self.path / "proofs"

    @property
    def state(self) -> Path:
        """Folder of the agent's durable state."""
        return self.path / "state"

    @property
    def labels_file(self) -> Path:
        """The label journal; a trainer may read its folder, so that it lies apart."""
        return self.path / "labels" / "labels.journal"

    def head(self, bundle: Digest) -> Path:
        """Path for a bundle's personal parameters."""
        return self.path / "models" / f"{bundle.hex()}.head"

    def personal(self, bundle: Digest) -> Path:
        """Path for the board's own model of a bundle; made from exact gradients."""
        return self.path / "models" / f"{bundle.hex()}.personal"

    def config(self) -> AgentConfig:
        """Reads `agent.toml`.

        Raises:
          ConfigError: Naming file, key and bound, or that there is no such home.
        """
        return load_settings(AgentConfig, self._config_text(), str(self.config_file))

    def ignored_settings(self) -> tuple[str, ...]:
        """Keys of a later release's `agent.toml` that this release leaves out.

        Raises:
          ConfigError: If it cannot be read.
        """
        return ignored_keys(AgentConfig, self._config_text(), str(self.config_file))

    def _config_text(self) -> str:
        content = read_configured(self.config_file, CONFIG_BYTES_MAX)
        if content is None:
            raise ConfigError(
                f"missing; run: starling agent init --home {self.path}",
                file=str(self.config_file),
            )
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            raise ConfigError("is not UTF-8", file=str(self.config_file)) from error

    def data(self, config: AgentConfig) -> Path:
        """The data set's folder."""
        return self.path / config.data.path

    def signing_key(self) -> SigningKey:
        """Reads the board's key.

        Raises:
          ConfigError: If it is missing, others can read it, or it is no key.
        """
        self.require_secret(self.seed_file)
        seed = read_configured(self.seed_file, SEED_BYTES) or b""
        if len(seed) != SEED_BYTES:
            raise ConfigError(
                "is no key of 32 bytes; put a copy back, or move it away and run: "
                f"starling agent init --home {self.path}, then enrol again",
                file=str(self.seed_file),
            )
        return SigningKey(seed)

    def require_folders(self) -> None:
        """Refuses a home that an update could not be kept in, before one is paid for.

        Raises:
          ConfigError: If a folder is missing; with the command that puts it right.
          StorageError: If one cannot be written.
        """
        for path in (self.path / name for name in _NEEDED):
            if not is_there(path):
                raise ConfigError(
                    "missing; put it back if there is a copy; else run: "
                    f"starling agent init --home {self.path}",
                    file=str(path),
                )
            require_writable(path)

    def require_secret(self, key: Path) -> None:
        """Refuses a key of the home that is missing, or that others can touch.

        Raises:
          ConfigError: With the command that puts it right.
          StorageError: If it cannot be looked at.
        """
        with storage_errors(key):
            is_there = key.exists()
        if not is_there:
            again = f"starling agent init --home {self.path}, then enrol again"
            raise ConfigError(f"missing; run: {again}", file=str(key))
        require_private(key)

    def admission(self) -> Admission | None:
        """Reads what the operator gave; None if the board is not enrolled.

        Raises:
          ConfigError: If it is malformed or for another board.
        """
        content = read_configured(self.admission_file, DOCUMENT_BYTES_MAX)
        if content is None:
            return None
        return self._checked(content, self.admission_file)

    @property
    def _enrol(self) -> str:
        """Way out of an admission that is of no use."""
        return f"get one for this board: starling agent enrol --home {self.path}"

    def _checked(self, content: bytes, file: Path) -> Admission:
        try:
            admission = admission_from_json(content)
        except ProtocolError as error:
            raise ConfigError(f"{error}; {self._enrol}", file=str(file)) from error
        ours = self.identity()
        if admission.device != ours:
            raise ConfigError(
                f"admits {device_name(admission.device)}, we are {device_name(ours)}; "
                f"{self._enrol}",
                file=str(file),
            )
        return admission

    def begin(self, settings: dict[str, Any]) -> bool:
        """Makes the home and whatever is missing in it; never replaces anything.

        Args:
          settings: By dotted key, for a new `agent.toml`.

        Returns:
          Whether the board's key is new.

        Raises:
          StorageError: If the disk refuses.
        """
        for folder in (self.path, *(self.path / name for name in _FOLDERS)):
            make_folder(folder)
        if not self.config_file.exists():
            text = sample(AgentConfig, settings)
            # Settings that a start would refuse are not written at all.
            load_settings(AgentConfig, text, str(self.config_file))
            write_atomic(self.config_file, text.encode())
        data = self.data(self.config())
        make_folder(data)
        if not (self.tls_public_file.exists() and self.tls.key.exists()):
            public = write_tls_key(self.tls.key, os.urandom(SEED_BYTES))
            write_atomic(self.tls_public_file, public)
        if self.seed_file.exists():
            return False
        # Last, so that a home with a key is complete: what a power cut left out is made
        # by the next call.
        write_atomic(self.seed_file, os.urandom(SEED_BYTES))
        return True

    def make_private(self) -> list[Path]:
        """Takes the home, and the data in it, from the group and from others.

        Keys stay as they are: one that others could read is no secret any more, which
        `require_private` says. Data elsewhere are their owner's to protect.

        Returns:
          What was changed.

        Raises:
          StorageError: If the disk refuses.
        """
        return make_private(self.path, leave=("keys",))

    def write_request(self) -> Path:
        """Writes the enrolment request.

        Raises:
          ConfigError: If there is no key yet, or others can read it.
        """
        key = self.signing_key()
        public = read_limited(self.tls_public_file, KEY_BYTES)
        request = request_enrolment(key, public)
        write_atomic(self.request_file, request.to_json().encode())
        return self.request_file

    def accept(self, file: Path, *, replace: bool) -> Admission:
        """Takes an operator's admission.

        Args:
          file: The document.
          replace: Whether another fleet's admission may be replaced.

        Raises:
          ConfigError: If it is malformed, for another board or another fleet, or its
            certificate is not for our key.
        """
        try:
            content = read_limited(file, DOCUMENT_BYTES_MAX)
        except LimitError as error:
            raise ConfigError(str(error), file=str(file)) from error
        return self.take(content, file, replace=replace)

    def take(self, content: bytes, file: Path, *, replace: bool) -> Admission:
        """Takes an admission's bytes.

        Args:
          content: The document.
          file: What messages name.
          replace: As of `accept`.

        Raises:
          ConfigError: As `accept`.
        """
        admission = self._checked(content, file)
        before = self.admission()
        if before is not None and not replace and before.genesis != admission.genesis:
            raise ConfigError(
                "is for another chain than the one this board belongs to; "
                "use --replace to change over",
                file=str(file),
            )
        tls = self.tls
        # Nothing that works is replaced by what does not.
        tried = tls.certificate.with_name(f".{tls.certificate.name}.tried")
        write_atomic(tried, admission.certificate_pem.encode())
        try:
            _check_certificates(admission.ca_pem, tried, tls.key, file)
        finally:
            tried.unlink(missing_ok=True)
        write_atomic(tls.authority, admission.ca_pem.encode())
        write_atomic(tls.certificate, admission.certificate_pem.encode())
        # Last: a board counts as enrolled once its admission is there.
        write_atomic(self.admission_file, content)
        return admission


def _check_certificates(authority: str, tried: Path, key: Path, file: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    what = "ca_pem is no certificate"
    try:
        context.load_verify_locations(cadata=authority)
        what = "its certificate is not for our key"
        context.load_cert_chain(tried, key)
    except ssl.SSLError as error:
        raise ConfigError(
            f"{what}: {error.reason or error.strerror}", file=str(file)
        ) from error
