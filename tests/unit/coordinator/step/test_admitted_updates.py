"""Admitted updates against a dictionary."""

import random

from starling.coordinator.step.admitted_updates import (
    AdmittedUpdate,
    AdmittedUpdates,
    admitted_key,
)
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.ids import ChainId, H, TaskId, Version
from starling.protocol.wire.envelope import Envelope, MessageKind, sign


def some_envelope() -> Envelope:
    key = SigningKey(bytes(32))
    return sign(key, ChainId(bytes(32)), MessageKind.UPDATE, 1, b"")


def test_counts_by_task_are_those_of_what_is_held() -> None:
    rng, envelope = random.Random(1), some_envelope()
    found: AdmittedUpdates = AdmittedUpdates()
    plain: dict[bytes, AdmittedUpdate] = {}

    for number in range(2000):
        device = H(bytes([rng.randrange(4)]))[:16]
        task, base = TaskId(rng.randrange(3)), Version(rng.randrange(4))
        key = admitted_key(device, task, base)
        if rng.random() < 0.5:
            identity = H(number.to_bytes(4))
            update = AdmittedUpdate(identity, base, task, float(number), envelope)
            found, plain[key] = found.put(key, update), update
        else:
            found = found.without(key)
            plain.pop(key, None)
        assert found.get(key) == plain.get(key)
        assert len(found) == len(plain)
        for each in range(3):
            expected = sum(held.task == each for held in plain.values())
            assert found.of_task(TaskId(each)) == expected
    assert dict(found.items()) == plain


def test_without_what_is_not_held_is_the_same() -> None:
    nothing = AdmittedUpdates()

    assert nothing.without(admitted_key(bytes(16), 0, 0)) is nothing
