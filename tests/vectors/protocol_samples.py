"""One chain, built from fixed seeds, with an example of what it proves and decides.

Four validators have certified a block with one contribution of one board; the examples
are that block, its proofs and the messages on the way there.
"""

from dataclasses import replace

from starling.protocol.chain import (
    blocks,
    board_statement,
    credit_policy,
    genesis,
    governance,
    key_rotation,
    light_client,
)
from starling.protocol.crypto import merkle, sealed_blob, state_tree
from starling.protocol.crypto.keys import OpeningKey, SigningKey
from starling.protocol.ids import BlockHash, Digest, H, TaskId, Version
from starling.protocol.learning import task
from starling.protocol.wire import envelope, message_bodies
from starling.protocol.wire.envelope import MessageKind, sign

OPERATOR = SigningKey(bytes(range(32)))
BOARD = SigningKey(bytes(range(32, 64)))
ENTROPY = bytes(range(64, 96))
PLAINTEXT = b"\x00" + bytes(range(256)) * 2
_NAMES = ("athens", "bergen", "cadiz", "delft")
_PAIRS = sorted(
    (
        (SigningKey(bytes([1 + i]) * 32), OpeningKey(bytes([65 + i]) * 32))
        for i in range(len(_NAMES))
    ),
    key=lambda pair: pair[0].public,
)
VALIDATOR_KEYS = tuple(signing for signing, _ in _PAIRS)
OPENING_KEYS = tuple(opening for _, opening in _PAIRS)
VALIDATORS = genesis.ValidatorSet(
    tuple(
        genesis.Validator(signing.public, opening.public, name)
        for (signing, opening), name in zip(_PAIRS, _NAMES, strict=True)
    )
)
GENESIS = genesis.Genesis(
    genesis.FORMAT_VERSION,
    "demo",
    1_700_000_000_000,
    genesis.FaultModel.BYZANTINE,
    VALIDATORS,
    (OPERATOR.public,),
    60,
    credit_policy.CreditPolicy(10**9, 10**6, 10**5, 500),
)
CHAIN_ID = GENESIS.chain_id()

MODEL = task.ModelDigests(
    *(Digest(H(name)) for name in (b"theta", b"momentum", b"average", b"f32", b"ema"))
)
SPEC = task.TaskSpec(
    "digits",
    H(b"bundle"),
    70_000,
    6_490,
    1,
    MODEL,
    task.TrainingPolicy(task.TrainingMode.GRADIENT, 1, 32, task.Q24 // 10),
    task.PrivacyPolicy(1, task.Q24, 3_419_000, 8 * task.MICRO, 10**7, 15),
    task.AggregationPolicy(
        task.Strategy.FEDBUFF,
        10,
        task.Q16 // 2,
        task.Q16 // 2,
        task.Q16 * 9 // 10,
        tuple(round(task.Q15 * (1 + tau) ** -0.5) for tau in range(21)),
        30,
        20,
        1 << 36,
    ),
    task.geometric_pledges(16, 1.5),
    1_000_000,
)
BLOB, COMMITMENT = sealed_blob.seal(
    PLAINTEXT, [key.public for key in OPENING_KEYS], ENTROPY, BOARD.public
)
SEALED = sealed_blob.SEALED.unpack(BLOB)
CONTRIBUTION = message_bodies.Contribution(
    TaskId(0),
    Version(3),
    1,
    128,
    1,
    85_546_875_000,
    sealed_blob.blob_digest(BLOB),
    COMMITMENT,
    256_640_625_000,
)
LEASE = message_bodies.Lease(BOARD.identity, TaskId(0), Version(3), 17, 120)
UPDATE = sign(
    BOARD,
    CHAIN_ID,
    MessageKind.UPDATE,
    4,
    message_bodies.CONTRIBUTION.pack(CONTRIBUTION),
)
STATE = state_tree.StateTree().update(
    {
        light_client.version_key(0, 3): task.version_digest(MODEL),
        light_client.task_key(0): task.TASK.pack(SPEC),
        **{b"board/%d" % i: b"value %d" % i for i in range(300)},
    }
)


def certify(
    header: blocks.Header,
    keys: tuple[SigningKey, ...] = VALIDATOR_KEYS,
    voters: tuple[int, ...] = (0, 1, 2),
    round_: int = 0,
) -> blocks.Certificate:
    """A certificate of these voters' precommits; times rise with the voter."""
    block_id = header.block_id()
    extras = tuple(header.time_ms + 100 + voter for voter in voters)
    signatures = tuple(
        keys[voter].sign(
            blocks.vote_bytes(
                header.chain_id,
                blocks.VoteType.PRECOMMIT,
                header.height,
                round_,
                block_id,
                extra,
            )
        )
        for voter, extra in zip(voters, extras, strict=True)
    )
    mask = sum(1 << voter for voter in voters)
    return blocks.Certificate(header.height, round_, block_id, mask, signatures, extras)


TRANSACTIONS = (
    envelope.ENVELOPE.pack(UPDATE),
    *(b"another transaction %d" % i for i in range(99)),
)
HEADER = blocks.Header(
    genesis.FORMAT_VERSION,
    CHAIN_ID,
    12,
    1_700_000_060_000,
    BlockHash(H(b"parent")),
    merkle.root(TRANSACTIONS),
    STATE.root(),
    VALIDATORS.digest(),
    VALIDATORS.digest(),
    2,
)
CERTIFICATE = certify(HEADER)
BLOCK = blocks.Block(HEADER, TRANSACTIONS[:3])


def prevote_of(block_id: BlockHash | None) -> blocks.Vote:
    """What validator 1 says in round 1 of height 12, to all or to some."""
    kind = blocks.VoteType.PREVOTE
    signed = blocks.vote_bytes(CHAIN_ID, kind, 12, 1, block_id, 0)
    return blocks.Vote(kind, 12, 1, block_id, 0, 1, VALIDATOR_KEYS[1].sign(signed))


PREVOTE = prevote_of(HEADER.block_id())
_UNSIGNED = blocks.Proposal(
    12, 1, 1, HEADER.block_id(), 2, bytes(64), blocks.BLOCK.pack(BLOCK), CERTIFICATE
)
PROPOSAL = blocks.Proposal(
    12,
    1,
    1,
    HEADER.block_id(),
    2,
    VALIDATOR_KEYS[2].sign(_UNSIGNED.signed_bytes(CHAIN_ID)),
    blocks.BLOCK.pack(BLOCK),
    CERTIFICATE,
)
MANIFEST = light_client.ModelManifest(
    TaskId(0),
    Version(3),
    MODEL,
    HEADER,
    CERTIFICATE,
    STATE.prove(light_client.version_key(0, 3)),
    STATE.prove(light_client.task_key(0)),
)
FINAL = light_client.FinalityProof(
    UPDATE, HEADER, CERTIFICATE, 0, len(TRANSACTIONS), merkle.path(TRANSACTIONS, 0)
)
RECORD = board_statement.BoardRecord(
    BOARD.public,
    OPERATOR.identity,
    2,
    0,
    2,
    171_093_750_000,
    paid=256_640_625_000,
    mechanisms=2,
)
PROGRESS = board_statement.TaskProgress(Version(3), 5, 7, 2)
KNOWN = state_tree.StateTree().update(
    {
        board_statement.board_key(BOARD.identity): board_statement.BOARD.pack(RECORD),
        board_statement.head_key(0): board_statement.PROGRESS.pack(PROGRESS),
    }
)
LATER = replace(HEADER, height=13, state_root=KNOWN.root())
STATEMENT = board_statement.BoardStatement(
    UPDATE.identity(CHAIN_ID),
    LATER,
    certify(LATER),
    KNOWN.prove(board_statement.board_key(BOARD.identity)),
    KNOWN.prove(board_statement.head_key(0)),
)
LEASE_ENVELOPE = sign(
    VALIDATOR_KEYS[0], CHAIN_ID, MessageKind.LEASE, 17, message_bodies.LEASE.pack(LEASE)
)
NEXT_BOARD = SigningKey(bytes(range(96, 128)))
ROTATE = key_rotation.rotate(BOARD.identity, BOARD, NEXT_BOARD, CHAIN_ID, 5)
NEW_OPERATOR = SigningKey(bytes(range(128, 160)))


def motion_of(kind: MessageKind, content: bytes) -> governance.GovernanceProposal:
    """A motion that three of the four validators approved."""
    made = governance.GovernanceProposal(kind, 7, 20_000, 1_700_000_100_000, content)
    for key in VALIDATOR_KEYS[:3]:
        made = made.approved(key, CHAIN_ID)
    return made


OPERATOR_CHANGE = governance.OperatorChange(1, NEW_OPERATOR.public)
MOTION = motion_of(
    MessageKind.OPERATOR, governance.OPERATOR_CHANGE.pack(OPERATOR_CHANGE)
)


CHANGED = genesis.ValidatorSet(VALIDATORS.members[:3])
CHANGING = replace(HEADER, height=11, next_validators=CHANGED.digest())
HANDOVER = light_client.ValidatorSetTransition(CHANGING, certify(CHANGING), CHANGED)
