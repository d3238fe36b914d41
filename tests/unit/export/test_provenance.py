"""Nothing is believed of a version but what its chain proves."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from starling.coordinator.chain.verification.receipt import RECEIPT
from starling.export.onnx_model import parameter_names
from starling.export.provenance import (
    Claim,
    ProvenModel,
    epsilon_paid,
    metadata,
    proven,
)
from starling.export.runtime.coordinator_home import CoordinatorModels
from starling.protocol.chain.genesis import Genesis
from starling.protocol.chain.light_client import TrustedState, pin
from starling.protocol.errors import ProofError, ProtocolError, SignatureError
from starling.protocol.ids import H, PublicKey


@pytest.fixture
def trusted(source: CoordinatorModels) -> TrustedState:
    return pin(source._genesis)


def test_proven_model_names_its_signers_and_its_parameters(model: ProvenModel) -> None:
    assert model.signers == ("coordinator 1",)
    assert model.quorum == 1
    assert H(model.theta.astype("<f4").tobytes()) == model.claim.digests.inference


def _with_other_header(claim: Claim) -> Claim:
    entry = claim.version.entry
    assert entry is not None
    header = replace(entry.header, time_ms=entry.header.time_ms + 1)
    named = replace(entry.certificate, block_id=header.block_id())
    forged = replace(entry, header=header, certificate=named)
    return replace(claim, version=replace(claim.version, entry=forged))


def _with_other_root(claim: Claim) -> Claim:
    entry = claim.version.entry
    assert entry is not None
    value = bytes([entry.proof.value[0] ^ 1]) + entry.proof.value[1:]
    forged = replace(entry, proof=replace(entry.proof, value=value))
    return replace(claim, version=replace(claim.version, entry=forged))


@pytest.mark.parametrize(
    ("forge", "said"),
    [
        (lambda c: replace(c, theta=c.theta[:-1] + b"\x01"), "parameters are not"),
        (lambda c: replace(c, bundle=c.bundle + b"\x00"), "bundle is not"),
        (
            lambda c: replace(
                c,
                digests=replace(c.digests, inference=H(c.theta[4:])),
                theta=c.theta[4:],
            ),
            "digests are not",
        ),
        (lambda c: replace(c, row=replace(c.row, version=1)), "of something else"),
        (lambda c: replace(c, version=c.task), "of something else"),
        (lambda c: replace(c, task=c.version), "of something else"),
        (_with_other_root, "state root"),
        (_with_other_header, "signature"),
    ],
    ids=[
        "theta",
        "bundle",
        "digests",
        "version",
        "task for version",
        "version for task",
        "state",
        "header",
    ],
)
def test_forged_claims_are_refused(
    model: ProvenModel,
    trusted: TrustedState,
    forge: Callable[[Claim], Claim],
    said: str,
) -> None:
    with pytest.raises((ProofError, SignatureError), match=said):
        proven(forge(model.claim), trusted)


def test_certificate_is_checked_although_its_header_is_believed(
    model: ProvenModel, trusted: TrustedState
) -> None:
    entry = model.claim.version.entry
    assert entry is not None
    believing = trusted.accept(entry.header, entry.certificate)
    nothing = (bytes(64),) * len(entry.certificate.signatures)
    forged = replace(entry, certificate=replace(entry.certificate, signatures=nothing))
    claim = replace(model.claim, version=replace(model.claim.version, entry=forged))

    with pytest.raises(ProtocolError):
        proven(claim, believing)


def test_claim_of_another_chain_is_refused(model: ProvenModel) -> None:
    entry = model.claim.version.entry
    assert entry is not None
    genesis = replace(_genesis_of(model), created_ms=77)

    with pytest.raises(ProofError):
        proven(model.claim, pin(genesis))


def _genesis_of(model: ProvenModel) -> Genesis:
    operator = PublicKey(b"o" * 32)
    return Genesis(1, "virtual", 0, 0, model.validators, (operator,), 60)


def test_metadata_is_text_that_leads_back_to_the_proof(
    model: ProvenModel, source: CoordinatorModels
) -> None:
    told = metadata(model, parameter_names(model.opened))

    assert all(isinstance(value, str) for value in told.values())
    receipt = RECEIPT.unpack(base64.b64decode(told["starling.receipt"]))
    receipt.check(source._genesis)
    assert receipt.header.chain_id.hex() == told["starling.chain"]
    assert told["starling.parameters_digest"] == model.claim.digests.inference.hex()
    privacy = json.loads(told["starling.privacy"])
    assert privacy["unit"] == "one record"
    assert 0.0 < privacy["epsilon_paid_at_most"] <= privacy["epsilon"] == 8.0
    assert json.loads(told["starling.parameters"]) == ["linear.weight", "linear.bias"]


def test_nothing_is_paid_without_privacy(model: ProvenModel) -> None:
    plain = replace(model.spec, privacy=replace(model.spec.privacy, mechanism=0))

    assert epsilon_paid(plain, 10**9) is None
