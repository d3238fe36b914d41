"""The command `starling agent`, and an operator's answer to it."""

from pathlib import Path

import pytest

from starling import __main__ as starling
from starling.broker.runtime.certificate_authority import CertificateAuthority
from starling.protocol.chain.enrolment import Admission, request_from_json
from starling.protocol.ids import device_name
from tests.vectors.protocol_samples import GENESIS

Capture = pytest.CaptureFixture[str]


def agent(*words: str | Path) -> int:
    return starling.main(["agent", *map(str, words)])


def admission(home: Path, folder: Path) -> Path:
    """What an operator with a real authority gives back."""
    agent("enrol", "--home", home)
    request = request_from_json((home / "enrolment-request.json").read_bytes())
    authority = CertificateAuthority.create(
        folder / "ca.key", folder / "ca.pem", "test"
    )
    certificate = authority.issue(device_name(request.device), request.tls_public_key)
    document = Admission(
        request.device,
        GENESIS,
        "127.0.0.1",
        1,
        (folder / "ca.pem").read_text(),
        certificate.decode(),
    )
    path = folder / "admission.json"
    path.write_text(document.to_json())
    return path
