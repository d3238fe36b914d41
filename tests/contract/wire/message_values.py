"""Strategies for envelopes, their bodies and what travels in pieces."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from starling.protocol.crypto import sealed_blob
from starling.protocol.learning import task
from starling.protocol.wire import (
    chunk_deltas,
    chunks,
    envelope,
    health_messages,
    message_bodies,
)
from tests.contract.wire.field_values import (
    counts,
    devices,
    digests,
    names,
    signatures,
    task_numbers,
    tuples,
    upto,
)

envelopes = st.builds(
    envelope.Envelope,
    st.just(envelope.ENVELOPE_VERSION),
    upto(255),
    digests,
    counts,
    st.binary(max_size=80),
    signatures,
)
_sealed = st.builds(
    sealed_blob.SealedBlob,
    digests,
    tuples(st.binary(min_size=56, max_size=56), 4, 1),
    st.binary(min_size=16, max_size=80),
)
_chunks = st.binary(min_size=1, max_size=80).map(lambda whole: chunks.split(whole)[0])
MESSAGE_VALUES: dict[str, SearchStrategy[Any]] = {
    "ENVELOPE": envelopes,
    "SEALED": _sealed,
    "CHUNK": _chunks,
    "CHUNK_DELTA": st.builds(
        chunk_deltas.ChunkDelta,
        digests,
        st.integers(1, 1 << 28),
        upto(4096),
        st.binary(min_size=1, max_size=80),
        digests,
    ),
    "DEVICE_STATE": st.builds(
        message_bodies.DeviceState, upto(5), counts, counts, counts
    ),
    "COORDINATOR_STATE": st.builds(
        message_bodies.CoordinatorOnlineState, upto(1), counts
    ),
    "CHECK_IN": st.builds(
        message_bodies.CheckIn,
        task_numbers,
        counts,
        *(3 * [upto(message_bodies.PPM)]),
        upto(task.PLEDGE_MAX, 1),
        upto(2),
    ),
    "LEASE": st.builds(
        message_bodies.Lease,
        st.binary(min_size=16, max_size=16),
        task_numbers,
        counts,
        counts,
        upto(1 << 24),
    ),
    "CONTRIBUTION": st.builds(
        message_bodies.Contribution,
        task_numbers,
        counts,
        upto(255),
        upto(task.PLEDGE_MAX, 1),
        upto(255),
        counts,
        digests,
        digests,
        counts,
    ),
    "UPLOAD": st.builds(
        message_bodies.Upload, envelopes, envelopes, st.binary(max_size=80)
    ),
    "ACCEPTED": st.builds(message_bodies.Accepted, digests),
    "REFUSED": st.builds(
        message_bodies.Refused, digests, upto(255), upto(1 << 24), names
    ),
    "CHUNK_REQUEST": st.builds(
        message_bodies.ChunkRequest,
        digests,
        tuples(upto(1 << 20), message_bodies.CHUNK_REQUEST_MAX, 1),
        tuples(digests, 1),
    ),
    "HEALTH_REQUEST": st.builds(health_messages.HealthRequest, devices),
    "HEALTH_REPORT": st.builds(
        health_messages.HealthReport,
        upto(1),
        tuples(st.builds(health_messages.HealthRow, names, upto(2), names, names), 5),
    ),
    "REGISTER": st.builds(message_bodies.Register, digests),
    "LEARNER": st.builds(message_bodies.LearnerChange, upto(1), digests, names),
    "REVOKE": st.builds(message_bodies.Revoke, st.binary(min_size=16, max_size=16)),
    "ATTEST": st.builds(message_bodies.Attest, task_numbers, counts, digests),
    "PRESENT": st.builds(message_bodies.Present, st.integers(1, 1 << 40)),
    "FORFEIT": st.builds(message_bodies.Forfeit, task_numbers, counts, counts, counts),
    "CLOSE": st.builds(message_bodies.Close, task_numbers),
}
