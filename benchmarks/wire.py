"""How many bytes travel: an update with all that goes with it, and the chain's pieces.

`python -m benchmarks.wire` prints the table and writes benchmarks/results/wire.json.
An update is counted as its MQTT 5 packets: chunks with their header, the topic, the
two envelopes, the sealed boxes and the vector, which is Gaussian noise. TLS adds about
22 bytes a record.
"""

import argparse
import sys
from itertools import product
from typing import NamedTuple

import numpy as np

from benchmarks.harness.result_file import keep
from starling.protocol.chain.blocks import (
    CERTIFICATE,
    HEADER,
    Certificate,
    Header,
    VoteType,
    vote_bytes,
)
from starling.protocol.chain.genesis import (
    FORMAT_VERSION,
    GENESIS,
    FaultModel,
    Genesis,
    Validator,
    ValidatorSet,
    quorum,
)
from starling.protocol.chain.light_client import (
    FINAL,
    MANIFEST,
    FinalityProof,
    ModelManifest,
    task_key,
    version_key,
)
from starling.protocol.crypto import merkle
from starling.protocol.crypto.keys import OpeningKey, SigningKey
from starling.protocol.crypto.sealed_blob import ENTROPY_BYTES, blob_digest, seal
from starling.protocol.crypto.state_tree import StateTree
from starling.protocol.ids import (
    BlockHash,
    ChainId,
    Digest,
    H,
    TaskId,
    Version,
    device_name,
)
from starling.protocol.learning.codec_terms import CODEC_NAMES, codec_number
from starling.protocol.learning.task import (
    E12,
    MICRO,
    Q16,
    Q24,
    TASK,
    AggregationPolicy,
    ModelDigests,
    PrivacyPolicy,
    Strategy,
    TaskSpec,
    TrainingMode,
    TrainingPolicy,
    geometric_pledges,
    staleness_table,
    version_digest,
)
from starling.protocol.learning.vector_codecs import CODECS, GridVector
from starling.protocol.wire.chunks import CHUNK, split
from starling.protocol.wire.envelope import ENVELOPE, Envelope, MessageKind, sign
from starling.protocol.wire.message_bodies import (
    CONTRIBUTION,
    LEASE,
    UPLOAD,
    Contribution,
    Lease,
    Upload,
)
from starling.protocol.wire.topics import Topics

NOW_MS = 1_760_000_000_000
HEIGHT = 5_000
VERSION = Version(1_000)
TRANSACTIONS = 100
BOARDS = 1_000
CHARGE = 85_546_875_000
BOARD = SigningKey(b"b" * 32)


class Row(NamedTuple):
    """One line of the table; `goal` is None where the design names none."""

    what: str
    size_bytes: int
    goal_bytes: int | None


class Fleet(NamedTuple):
    """The coordinators of one case."""

    keys: tuple[SigningKey, ...]
    genesis: Genesis
    chain_id: ChainId


def fleet_of(coordinators: int) -> Fleet:
    """A fleet with that many coordinators, from fixed seeds."""
    keys = sorted(
        (SigningKey(bytes([1 + i]) * 32) for i in range(coordinators)),
        key=lambda key: key.public,
    )
    validators = ValidatorSet(
        tuple(
            Validator(key.public, OpeningKey(key.seed[::-1]).public, f"coordinator {i}")
            for i, key in enumerate(keys)
        )
    )
    genesis = Genesis(
        FORMAT_VERSION,
        "demo",
        NOW_MS,
        FaultModel.BYZANTINE,
        validators,
        (keys[0].public,),
        60,
    )
    return Fleet(tuple(keys), genesis, genesis.chain_id())


def signed_update(fleet: Fleet, codec: str, dimension: int) -> tuple[Envelope, bytes]:
    """A board's signed contribution, and the upload that carries it."""
    number = codec_number(codec)
    noise = np.random.Generator(np.random.PCG64(1)).normal(0, 1 << 30, dimension)
    vector = GridVector(np.rint(noise).astype(np.int64), -30)
    plaintext = CODECS[number].encode(vector, bytes)
    sealing = [each.sealing for each in fleet.genesis.validators.members]
    blob, committed = seal(
        plaintext, sealing, bytes(range(ENTROPY_BYTES)), BOARD.public
    )
    body = Contribution(
        TaskId(0), VERSION, number, 512, 1, CHARGE, blob_digest(blob), committed
    )
    update = sign(
        BOARD, fleet.chain_id, MessageKind.UPDATE, 1_000, CONTRIBUTION.pack(body)
    )
    granted = Lease(BOARD.identity, TaskId(0), VERSION, 100_000, 600)
    lease = sign(
        fleet.keys[0], fleet.chain_id, MessageKind.LEASE, 100_000, LEASE.pack(granted)
    )
    return update, UPLOAD.pack(Upload(update, lease, blob))


def packet_bytes(topic: str, payload_bytes: int) -> int:
    """An MQTT 5 PUBLISH at QoS 1 without properties (MQTT 5.0, section 3.3)."""
    remaining = 2 + len(topic) + 2 + 1 + payload_bytes
    length_bytes = (
        1 + (remaining > 127) + (remaining > 16_383) + (remaining > 2_097_151)
    )
    return 1 + length_bytes + remaining


def update_bytes(coordinators: int, codec: str, dimension: int) -> int:
    """All bytes of one update from the board to the broker."""
    _, upload = signed_update(fleet_of(coordinators), codec, dimension)
    topic = Topics("demo").up(device_name(BOARD.identity))
    return sum(packet_bytes(topic, len(CHUNK.pack(each))) for each in split(upload))


def example_task() -> TaskSpec:
    """A task with tables of ordinary length."""
    digests = ModelDigests(*(Digest(H(bytes([i]))) for i in range(5)))
    return TaskSpec(
        "digits",
        Digest(H(b"bundle")),
        70_000,
        21_840,
        1,
        digests,
        TrainingPolicy(TrainingMode.GRADIENT, 1, 32, Q24 // 10),
        PrivacyPolicy(1, Q24, 3_419_000, 8 * MICRO, E12 // 100_000, 15),
        AggregationPolicy(
            Strategy.FEDBUFF,
            10,
            Q16,
            Q16 // 2,
            Q16 * 9 // 10,
            staleness_table(0.5, 20),
            30,
            20,
            1 << 36,
        ),
        geometric_pledges(),
        MICRO,
    )


def certified(
    fleet: Fleet, transactions: tuple[bytes, ...], state: StateTree
) -> tuple[Header, Certificate]:
    """A header and the smallest certificate that proves it."""
    digest = fleet.genesis.validators.digest()
    header = Header(
        FORMAT_VERSION,
        fleet.chain_id,
        HEIGHT,
        NOW_MS,
        BlockHash(H(b"parent")),
        merkle.root(transactions),
        state.root(),
        digest,
        digest,
        0,
    )
    voters = range(quorum(len(fleet.keys), FaultModel.BYZANTINE))
    precommit = VoteType.PRECOMMIT
    signatures = tuple(
        fleet.keys[voter].sign(
            vote_bytes(fleet.chain_id, precommit, HEIGHT, 0, header.block_id(), NOW_MS)
        )
        for voter in voters
    )
    certificate = Certificate(
        HEIGHT,
        0,
        header.block_id(),
        (1 << len(voters)) - 1,
        signatures,
        (NOW_MS,) * len(voters),
    )
    return header, certificate


def chain_rows(coordinators: int) -> list[Row]:
    """The chain's pieces in a block of 100 transactions and a state of 1,000 boards."""
    fleet = fleet_of(coordinators)
    update, _ = signed_update(fleet, "block8", 256)
    transaction = ENVELOPE.pack(update)
    transactions = (transaction,) * TRANSACTIONS
    spec = example_task()
    state = StateTree().update(
        {
            version_key(0, VERSION): version_digest(spec.initial),
            task_key(0): TASK.pack(spec),
            **{b"board/%d" % i: bytes(100) for i in range(BOARDS)},
        }
    )
    header, certificate = certified(fleet, transactions, state)
    manifest = ModelManifest(
        TaskId(0),
        VERSION,
        spec.initial,
        header,
        certificate,
        state.prove(version_key(0, VERSION)),
        state.prove(task_key(0)),
    )
    path = merkle.path(transactions, 0)
    final = FinalityProof(update, header, certificate, 0, TRANSACTIONS, path)
    four = coordinators == 4
    name = f", n = {coordinators}"
    return [
        Row("contribution transaction" + name, len(transaction), 225),
        Row("header" + name, len(HEADER.pack(header)), None),
        Row(
            "certificate" + name,
            len(CERTIFICATE.pack(certificate)),
            260 if four else None,
        ),
        Row("receipt (final)" + name, len(FINAL.pack(final)), 1_500),
        Row("manifest" + name, len(MANIFEST.pack(manifest)), None),
        Row("genesis" + name, len(GENESIS.pack(fleet.genesis)), None),
    ]


def rows() -> list[Row]:
    """The whole table."""
    table = []
    for dimension, goal in ((6_490, 7_000), (21_840, 23_000)):
        for codec, coordinators in product(CODEC_NAMES, (1, 4)):
            size = update_bytes(coordinators, codec, dimension)
            what = f"update of {dimension:,} parameters, {codec}, n = {coordinators}"
            table.append(Row(what, size, None if codec == "float32" else goal))
    return table + chain_rows(1) + chain_rows(4)


def main() -> int:
    """Prints the table; 1 if a goal is missed."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    table = rows()
    for row in table:
        goal = f"<= {row.goal_bytes:,}" if row.goal_bytes else ""
        missed = row.goal_bytes is not None and row.size_bytes > row.goal_bytes
        mark = "  missed" if missed else ""
        sys.stdout.write(f"{row.what:<47} {row.size_bytes:>8,} B  {goal}{mark}\n")
    keep("wire", [row._asdict() for row in table])
    return int(any(r.goal_bytes and r.size_bytes > r.goal_bytes for r in table))


if __name__ == "__main__":
    sys.exit(main())
