"""Boards that others benchmark with: a task, and updates that are ready to publish."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from starling.compiler import compile_model
from starling.compiler.ir.graph_writer import IR_VERSION, OPSET
from starling.coordinator.aggregation.server_step import initial_state
from starling.coordinator.aggregation.strategy import PackedModel, pack_model
from starling.protocol.chain.genesis import Genesis
from starling.protocol.crypto.keys import SigningKey
from starling.protocol.crypto.sealed_blob import ENTROPY_BYTES, blob_digest, seal
from starling.protocol.ids import H, TaskId, Version, device_id, device_name
from starling.protocol.learning.codec_terms import codec_number
from starling.protocol.learning.task import (
    Q15,
    Q16,
    AggregationPolicy,
    PrivacyPolicy,
    Strategy,
    TaskSpec,
    TrainingMode,
    TrainingPolicy,
)
from starling.protocol.learning.vector_codecs import CODECS, GridVector
from starling.protocol.wire.chunks import CHUNK, split
from starling.protocol.wire.envelope import MessageKind, sign
from starling.protocol.wire.message_bodies import (
    CONTRIBUTION,
    LEASE,
    UPLOAD,
    Contribution,
    Lease,
    Upload,
)
from starling.protocol.wire.topics import Topics

PLEDGE = 600
NORM_MAX = 1 << 44
STALENESS_MAX = 20


@dataclass(frozen=True)
class PublishedTask:
    """A task, with its bundle and the bytes of its version 0."""

    spec: TaskSpec
    model: PackedModel
    bundle: bytes


def task(dimension: int, leases: int, buffer: int) -> PublishedTask:
    """A task without noise, of 8-bit updates.

    Args:
      dimension: Parameters of an update.
      leases: Boards in flight at once; at least K are.
      buffer: K; a large one cuts rarely, so that taking in is what is measured.
    """
    model = pack_model(initial_state(np.zeros(dimension, np.int64)))
    bundle = _bundle(dimension)
    weights = (Q15,) * (STALENESS_MAX + 1)
    policy = AggregationPolicy(
        Strategy.FEDBUFF,
        buffer,
        Q16,
        0,
        0,
        weights,
        max(leases, buffer),
        1000,
        NORM_MAX,
    )
    spec = TaskSpec(
        name="benchmark",
        bundle=H(bundle),
        bundle_bytes=len(bundle),
        dimension=dimension,
        codec=codec_number("block8"),
        initial=model.digests(),
        training=TrainingPolicy(TrainingMode.GRADIENT, 1, 1, 0),
        privacy=PrivacyPolicy(0, 0, 0, 0, 0, 1),
        aggregation=policy,
        pledges=(PLEDGE,),
        pool=0,
    )
    return PublishedTask(spec, model, bundle)


@cache
def _bundle(dimension: int) -> bytes:
    """A bundle of so many parameters: coordinators let no task pass without one."""
    values = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["out"])],
        "line",
        [values("x", TensorProto.FLOAT, ["n", dimension])],
        [values("out", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(np.zeros((dimension, 1), np.float32), "w")],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    return compile_model(model, loss="mse").packed


def board_keys(count: int) -> list[SigningKey]:
    """The keys of so many boards, always the same."""
    return [SigningKey(H(b"board", number.to_bytes(4))) for number in range(count)]


def make_uploads(
    genesis: Genesis,
    granting: Sequence[SigningKey],
    boards: Sequence[SigningKey],
    spec: TaskSpec,
) -> list[Upload]:
    """One sealed and signed update of version 0 from each board.

    Args:
      genesis: Of the chain.
      granting: Keys of coordinators, which grant the leases in turn.
      boards: Who signs.
      spec: What for.
    """
    chain_id = genesis.chain_id()
    sealing = [one.sealing for one in genesis.validators.members]
    codec, rng = CODECS[spec.codec], np.random.default_rng(1)
    uploads = []
    for number, key in enumerate(boards):
        noise = (rng.normal(size=spec.dimension) * 2**20).astype(np.int64)
        plain = codec.encode(GridVector(noise, -20), os.urandom)
        blob, bound = seal(plain, sealing, os.urandom(ENTROPY_BYTES), key.public)
        body = Contribution(
            TaskId(0), Version(0), spec.codec, PLEDGE, 0, 0, blob_digest(blob), bound
        )
        lease = Lease(key.identity, TaskId(0), Version(0), 1, 600)
        granter = granting[number % len(granting)]
        uploads.append(
            Upload(
                sign(key, chain_id, MessageKind.UPDATE, 1, CONTRIBUTION.pack(body)),
                sign(
                    granter, chain_id, MessageKind.LEASE, 1 + number, LEASE.pack(lease)
                ),
                blob,
            )
        )
    return uploads


def as_messages(topics: Topics, uploads: Sequence[Upload]) -> list[tuple[str, bytes]]:
    """Topic and payload of each upload; they must fit into one chunk."""
    messages = []
    for upload in uploads:
        (chunk,) = split(UPLOAD.pack(upload))
        topic = topics.up(device_name(device_id(upload.update.sender)))
        messages.append((topic, CHUNK.pack(chunk)))
    return messages
