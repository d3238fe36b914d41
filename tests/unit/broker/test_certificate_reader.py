"""A certificate, read as the library that made it reads it."""

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from starling.broker.certificate_reader import (
    DAY_S,
    TlsCertificate,
    days_left,
    end_s,
    from_pem,
    read_certificate,
    to_pem,
)
from starling.broker.runtime.certificate_authority import CertificateAuthority
from starling.protocol.errors import DecodeError
from starling.protocol.ids import PublicKey

KEY = bytes(range(32))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    folder = tmp_path_factory.mktemp("authority")
    return CertificateAuthority.create(folder / "a.key", folder / "a.pem", "test")


@pytest.mark.parametrize("days", [-400, 1, 825, 366 * 40], ids=str)
def test_end_is_what_the_library_reads(
    authority: CertificateAuthority, days: int
) -> None:
    pem = authority.issue_server(("localhost", "::1"), KEY, days).decode()

    expected = x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc
    assert end_s(pem) == expected.timestamp()
    assert days_left(pem, expected.timestamp() - 3 * DAY_S) == 3.0


def test_first_certificate_of_several_counts(authority: CertificateAuthority) -> None:
    first = authority.issue("a", KEY, 10).decode()
    second = authority.issue("b", KEY, 20).decode()

    assert end_s("of the board\n" + first + second) == end_s(first)
    assert end_s(first) != end_s(second)


def test_text_cut_anywhere_is_refused_and_no_traceback(
    authority: CertificateAuthority,
) -> None:
    pem = authority.issue("a", KEY).decode()
    lines = pem.strip().splitlines()

    for kept in range(len(lines) - 1):
        with pytest.raises(DecodeError):
            end_s("\n".join(lines[:kept]))
    for kept in (1, 2):
        with pytest.raises(DecodeError):
            end_s("\n".join([*lines[:kept], lines[-1]]))


@pytest.mark.parametrize(
    "text", ["", "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----"]
)
def test_what_is_no_certificate_is_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        end_s(text)


def test_certificate_is_read_as_the_library_reads_it(
    authority: CertificateAuthority,
) -> None:
    pem = authority.issue("ann", KEY)
    library = x509.load_pem_x509_certificate(pem)

    found = read_certificate(from_pem(pem.decode()))

    assert found == TlsCertificate(
        "ann",
        PublicKey(KEY),
        library.not_valid_after_utc.timestamp(),
        library.tbs_certificate_bytes,
        library.signature,
    )
    assert to_pem(from_pem(pem.decode())).encode() == pem


def test_certificate_with_another_kind_of_key_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ann")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now)
        .sign(key, hashes.SHA256())
    )

    with pytest.raises(DecodeError, match="Ed25519"):
        read_certificate(made.public_bytes(Encoding.DER))


def test_moment_in_a_form_of_another_length_is_refused(
    authority: CertificateAuthority,
) -> None:
    whole = from_pem(authority.issue("ann", KEY, 10).decode())
    # 13 characters with the tag of 15: a lenient reader finds a month of one digit.
    start = whole.rindex(b"\x17\x0d")
    changed = whole[:start] + b"\x18" + whole[start + 1 :]

    with pytest.raises(DecodeError):
        end_s(to_pem(changed))
