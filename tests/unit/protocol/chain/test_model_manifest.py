"""A manifest proves a version and its task, and refuses what proves another."""

from dataclasses import replace

import pytest

from starling.protocol.chain.light_client import (
    MANIFEST,
    ModelManifest,
    task_key,
    version_key,
)
from starling.protocol.chain.task_end import closure_key
from starling.protocol.crypto.state_tree import StateTree
from starling.protocol.errors import ProofError, ProtocolError
from starling.protocol.ids import Digest, TaskId, Version
from starling.protocol.learning.task import TASK, version_digest
from tests.unit.protocol.chain.later_validators import (
    HANDOVER,
    LATER,
    LATER_KEYS,
    PINNED,
)
from tests.vectors import protocol_samples as samples
from tests.vectors.protocol_samples import HEADER, STATE, certify
from tests.vectors.protocol_samples import MANIFEST as SHOWN


def test_manifest_proves_version_and_task() -> None:
    after, spec = MANIFEST.unpack(MANIFEST.pack(SHOWN)).check(PINNED)

    assert after.height == 12
    assert spec == samples.SPEC


CLOSED = STATE.update({closure_key(0): b"at some height", closure_key(1): b"too"})
CLOSED_HEADER = replace(HEADER, state_root=CLOSED.root())


def at_its_end(key: bytes) -> ModelManifest:
    """The manifest of task 0 under a state in which it is closed."""
    return replace(
        SHOWN,
        header=CLOSED_HEADER,
        certificate=certify(CLOSED_HEADER),
        version_proof=CLOSED.prove(version_key(0, 3)),
        task_proof=CLOSED.prove(task_key(0)),
        end=CLOSED.prove(key),
    )


def test_manifest_proves_that_its_task_is_over() -> None:
    manifest = MANIFEST.unpack(MANIFEST.pack(at_its_end(closure_key(0))))

    manifest.check(PINNED)

    assert manifest.is_over
    assert not SHOWN.is_over


@pytest.mark.parametrize("key", [closure_key(1), task_key(0)])
def test_manifest_with_the_end_of_something_else_is_not_over(key: bytes) -> None:
    with pytest.raises(ProofError, match="not of an end"):
        _ = at_its_end(key).is_over


NEWER = STATE.update({b"board/1": b"changed"})
OTHER_MODEL = replace(samples.MODEL, theta=Digest(bytes(32)))
FORGED_STATE = StateTree().update(
    {
        version_key(0, 3): version_digest(OTHER_MODEL),
        task_key(0): TASK.pack(samples.SPEC),
    }
)
FORGED = {
    "another task": replace(SHOWN, task=TaskId(1)),
    "another version": replace(SHOWN, version=Version(4)),
    "another model": replace(SHOWN, model=OTHER_MODEL),
    "proofs swapped": replace(
        SHOWN, version_proof=SHOWN.task_proof, task_proof=SHOWN.version_proof
    ),
    "proof of a newer state": replace(
        SHOWN, version_proof=NEWER.prove(version_key(0, 3))
    ),
    "task's proof of a newer state": replace(
        SHOWN, task_proof=NEWER.prove(task_key(0))
    ),
    "proof of an invented state": replace(
        SHOWN, model=OTHER_MODEL, version_proof=FORGED_STATE.prove(version_key(0, 3))
    ),
    "header of an invented state": replace(
        SHOWN,
        model=OTHER_MODEL,
        header=replace(HEADER, state_root=FORGED_STATE.root()),
        version_proof=FORGED_STATE.prove(version_key(0, 3)),
        task_proof=FORGED_STATE.prove(task_key(0)),
    ),
    "an end that is not in the state": replace(SHOWN, end=CLOSED.prove(closure_key(0))),
    "value replaced": replace(
        SHOWN,
        model=OTHER_MODEL,
        version_proof=replace(SHOWN.version_proof, value=version_digest(OTHER_MODEL)),
    ),
    "spec replaced": replace(
        SHOWN,
        task_proof=replace(
            SHOWN.task_proof, value=TASK.pack(replace(samples.SPEC, name="easier"))
        ),
    ),
}


@pytest.mark.parametrize("manifest", FORGED.values(), ids=FORGED)
def test_manifest_that_proves_something_else_refuses(manifest: ModelManifest) -> None:
    with pytest.raises(ProofError):
        manifest.check(PINNED)


def test_manifest_with_any_byte_flipped_refuses() -> None:
    packed = bytearray(MANIFEST.pack(SHOWN))
    believed = []

    for place in range(len(packed)):
        packed[place] ^= 0x01
        if believes(bytes(packed)):
            believed.append(place)
        packed[place] ^= 0x01

    assert believed == []


def believes(packed: bytes) -> bool:
    try:
        MANIFEST.unpack(packed).check(PINNED)
    except ProtocolError:
        return False
    return True


def test_manifest_leads_through_handovers() -> None:
    header = replace(HEADER, height=14, validators=LATER.digest())
    header = replace(header, next_validators=LATER.digest())
    shown = replace(SHOWN, header=header, certificate=certify(header, LATER_KEYS))
    with pytest.raises(ProofError, match="not trusted"):
        shown.check(PINNED)

    after, _ = replace(shown, handovers=(HANDOVER,)).check(PINNED)

    assert (after.height, after.validators) == (14, LATER)
