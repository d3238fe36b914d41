"""Enrolment documents: what is written is read back, and nothing else is."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.protocol.chain.enrolment import (
    DOCUMENT_BYTES_MAX,
    Admission,
    admission_from_json,
    request_enrolment,
    request_from_json,
)
from starling.protocol.chain.light_client import pin
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.errors import (
    DecodeError,
    LimitError,
    ProtocolError,
    SignatureError,
)
from starling.protocol.ids import ChainId, device_name
from tests.vectors.protocol_samples import CERTIFICATE, GENESIS, HEADER

KEY = SigningKey(b"\x05" * 32)
TLS = SigningKey(b"\x06" * 32).public
REQUEST = request_enrolment(KEY, TLS)
PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
ADMISSION = Admission(KEY.identity, GENESIS, "broker.example", 8883, PEM, PEM)


def changed(text: str, **fields: object) -> str:
    document: dict[str, Any] = json.loads(text)
    document.update(fields)
    return json.dumps({k: v for k, v in document.items() if v is not None})


def test_request_survives_being_written() -> None:
    assert request_from_json(REQUEST.to_json()) == REQUEST


def test_admission_survives_being_written() -> None:
    assert admission_from_json(ADMISSION.to_json()) == ADMISSION


def test_admission_says_whom_to_trust_by_now() -> None:
    assert ADMISSION.pinned == pin(GENESIS)
    later = pin(GENESIS).accept(HEADER, CERTIFICATE)
    admission = admission_from_json(replace(ADMISSION, trusted=later).to_json())
    assert admission.pinned == later


def test_admission_that_trusts_another_chain_is_refused() -> None:
    other = replace(pin(GENESIS), chain_id=ChainId(bytes(32)))
    with pytest.raises(DecodeError, match="another chain"):
        admission_from_json(replace(ADMISSION, trusted=other).to_json())


def test_request_names_the_board_of_its_key() -> None:
    assert json.loads(REQUEST.to_json())["device"] == device_name(KEY.identity)


def test_request_signed_by_another_key_is_refused() -> None:
    other = request_enrolment(SigningKey(b"\x09" * 32), TLS)
    forged = replace(REQUEST, signature=other.signature)

    with pytest.raises(SignatureError):
        request_from_json(forged.to_json())


def test_request_for_another_tls_key_is_refused() -> None:
    forged = replace(REQUEST, tls_public_key=KEY.public)

    with pytest.raises(SignatureError):
        request_from_json(forged.to_json())


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"format": "starling/enrolment-request/2"}, "format"),
        ({"device": "a" * 26}, "device"),
        ({"public_key": "zz"}, "public_key"),
        ({"public_key": KEY.public.hex().upper()}, "public_key"),
        ({"tls_public_key": TLS.hex()[:-2]}, "tls_public_key"),
        ({"signature": 7}, "signature"),
        ({"signature": None}, "signature"),
        ({"extra": 1}, "extra"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_request_with_a_wrong_field_names_it(
    fields: dict[str, object], named: str
) -> None:
    with pytest.raises(ProtocolError, match=named):
        request_from_json(changed(REQUEST.to_json(), **fields))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"format": "starling/enrolment-request/1"}, "format"),
        ({"device": "not a device"}, "device"),
        ({"genesis": "!"}, "genesis"),
        ({"genesis": "AAAA"}, "genesis"),
        ({"trusted": "AAAA"}, "trusted"),
        ({"trusted": None}, "trusted"),
        ({"broker_host": ""}, "broker_host"),
        ({"broker_host": "a b"}, "broker_host"),
        ({"broker_port": 0}, "broker_port"),
        ({"broker_port": 65536}, "broker_port"),
        ({"broker_port": True}, "broker_port"),
        ({"broker_port": "8883"}, "broker_port"),
        ({"ca_pem": "no certificate"}, "ca_pem"),
        ({"certificate_pem": PEM.replace("CERTIFICATE", "PRIVATE KEY")}, "certificate"),
        ({"certificate_pem": None}, "certificate_pem"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_admission_with_a_wrong_field_names_it(
    fields: dict[str, object], named: str
) -> None:
    with pytest.raises(ProtocolError, match=named):
        admission_from_json(changed(ADMISSION.to_json(), **fields))


@pytest.mark.parametrize("read", [request_from_json, admission_from_json])
@pytest.mark.parametrize(
    "text",
    ["", "[]", "nul", '{"format": 1, "format": 1}', "[" * 50_000, b"\xff"],
    ids=["empty", "list", "no JSON", "key twice", "deep", "no UTF-8"],
)
def test_text_that_is_no_document_is_refused(
    read: Callable[[str | bytes], object], text: str | bytes
) -> None:
    with pytest.raises(ProtocolError):
        read(text)


def test_document_over_the_limit_is_refused_unread() -> None:
    with pytest.raises(LimitError):
        request_from_json(" " * (DOCUMENT_BYTES_MAX + 1))


@given(st.data())
def test_request_with_any_byte_changed_is_refused_or_the_same(
    data: st.DataObject,
) -> None:
    text = REQUEST.to_json()
    place = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from('0a"{,\\ '))
    mangled = text[:place] + letter + text[place + 1 :]

    try:
        read = request_from_json(mangled)
    except ProtocolError:
        return
    assert read == REQUEST
