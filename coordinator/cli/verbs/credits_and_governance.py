"""The operator's verbs about credits, and the validators' about the chain itself.

A motion is a file that goes from hand to hand: one validator draws it up, others add
their approval, and anybody submits it once a quorum stands in it.
"""

import argparse
from pathlib import Path
from typing import Any, TypeVar

from starling.coordinator.chain.state import operator_records, validator_records
from starling.coordinator.chain.storage.chain_store import StoredHead
from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.operations import (
    proposal_text,
    use_metering,
    version_rollback,
)
from starling.coordinator.runtime.operations.chain_decision import (
    add_wait,
)
from starling.coordinator.runtime.operations.decided_submission import submit_and_wait
from starling.coordinator.runtime.operations.newcomer_progress import require_caught_up
from starling.coordinator.runtime.operations.submission import submit
from starling.coordinator.runtime.setup.genesis_setup import read_identity
from starling.coordinator.runtime.storage.sqlite_schema import CHAIN_FILE
from starling.coordinator.runtime.storage.sqlite_store import SqliteStore
from starling.coordinator.runtime.verb_types import AddVerb, Shown
from starling.durable.files import read_limited, write_atomic
from starling.protocol.chain.credit_policy import (
    FUND,
    RELEASE,
    TRANSFER,
    USE,
    CreditPolicy,
    DepositRefund,
    Fund,
    Transfer,
    Use,
)
from starling.protocol.chain.genesis import FaultModel, Validator, ValidatorSet, quorum
from starling.protocol.chain.governance import (
    MOTION,
    OPERATOR_CHANGE,
    PARAMETER_CHANGE,
    UPGRADE_CHANGE,
    VALIDATOR_CHANGE,
    ChainParameter,
    GovernanceProposal,
    OperatorChange,
    ParameterChange,
    UpgradeChange,
    ValidatorChange,
)
from starling.protocol.chain.task_rollback import ROLLBACK
from starling.protocol.errors import ConfigError, OperationError, ProtocolError
from starling.protocol.ids import (
    KEY_BYTES,
    DeviceId,
    PublicKey,
    TaskId,
    device_from_name,
)
from starling.protocol.schema.msgpack_codec import Codec
from starling.protocol.wire.envelope import (
    MessageKind,
)
from starling.service.arguments import waiting_s

_T = TypeVar("_T")
GOOD_FOR_BLOCKS = 10_000
"""Blocks within which a motion is to be carried, unless it says otherwise."""
CATCH_UP_WAIT_S = 600.0
"""For which the motion that adds a validator waits until it has the chain."""
_READABLE = 0o644


def add_economy(verb: argparse.ArgumentParser) -> None:
    """The options of a new chain's credits."""
    for name, text in (
        ("supply", "all credits that there will ever be"),
        ("operator-grant", "what each operator begins with"),
        ("validator-deposit", "what each coordinator has at stake"),
        ("board-deposit", "what its operator puts at stake for each board"),
    ):
        verb.add_argument(
            f"--{name}", type=int, default=0, metavar="CREDITS", help=f"{text} (0)"
        )


def economy(options: argparse.Namespace) -> CreditPolicy:
    """Credit policy from the options of `add_economy`."""
    return CreditPolicy(
        options.supply,
        options.operator_grant,
        options.validator_deposit,
        options.board_deposit,
    )


def add_verbs(add: AddVerb) -> None:
    """Adds `fund`, `transfer`, `release` and `motion`."""
    fund = add("fund", _fund, "move credits to a task's pool, or to its contributors")
    fund.add_argument("task", type=int, help="the task's number")
    fund.add_argument(
        "amount", type=int, nargs="?", help="credits from the treasury to the pool"
    )
    fund.add_argument(
        "--from-use",
        type=int,
        metavar="READING",
        help="uses of the model that the operator's meter shows, all in all: those "
        "since the last reading are paid from the operator's account, at the task's "
        "price, to the boards by what they contributed",
    )
    add_wait(fund)
    move = add("transfer", _transfer, "move the operator's credits to an account")
    move.add_argument("account", help="id of a board, a coordinator or an operator")
    move.add_argument("amount", type=int, help="credits")
    add_wait(move)
    back = add("release", _release, "take the deposit of somebody back who left")
    back.add_argument("account", help="id of the board or coordinator")
    add_wait(back)
    motion = add("motion", _motion, "decide about the chain with the other validators")
    motion.add_argument(
        "words",
        nargs="+",
        metavar="WORD",
        help="operator-add KEY, operator-remove KEY, validator-add IDENTITY.json, "
        "validator-remove KEY, parameter NAME VALUE HEIGHT, upgrade VERSION HEIGHT: "
        "draws one up and approves it; then: approve FILE, show FILE, submit FILE",
    )
    motion.add_argument("--out", type=Path, help="the motion to write")
    motion.add_argument(
        "--wait",
        type=waiting_s,
        default=CATCH_UP_WAIT_S,
        metavar="SECONDS",
        help="validator-add: for a newcomer that has not caught up yet, at most "
        f"(default {CATCH_UP_WAIT_S:g})",
    )
    motion.add_argument(
        "--no-wait",
        dest="wait",
        action="store_const",
        const=0.0,
        help="validator-add: fail at once if it has not caught up",
    )
    motion.add_argument(
        "--force",
        action="store_true",
        help="validator-add: whether it has caught up or not",
    )
    motion.add_argument(
        "--blocks",
        type=int,
        default=GOOD_FOR_BLOCKS,
        help=f"within which it is to be carried (default {GOOD_FOR_BLOCKS})",
    )


def _fund(home: CoordinatorHome, options: argparse.Namespace) -> Shown:
    if (options.amount is None) == (options.from_use is None):
        raise ConfigError("give an amount, or --from-use READING", key="fund")
    if options.from_use is not None:
        use = _packed(USE, Use(TaskId(options.task), options.from_use))
        paid = use_metering.pay_for_use(home, USE.unpack(use), options.wait)
        return paid.document(), paid.text()
    body = _packed(FUND, Fund(TaskId(options.task), options.amount))
    document = {"task": options.task, "amount": options.amount}
    said = f"{options.amount} credits for task {options.task}"
    return _decided(home, options, MessageKind.FUND, body, document, said)


def _transfer(home: CoordinatorHome, options: argparse.Namespace) -> Shown:
    body = _packed(TRANSFER, Transfer(_identity(options.account), options.amount))
    document = {"account": options.account, "amount": options.amount}
    said = f"{options.amount} credits for {options.account}"
    return _decided(home, options, MessageKind.TRANSFER, body, document, said)


def _release(home: CoordinatorHome, options: argparse.Namespace) -> Shown:
    body = RELEASE.pack(DepositRefund(_identity(options.account)))
    document, said = {"account": options.account}, f"deposit of {options.account}"
    return _decided(home, options, MessageKind.RELEASE, body, document, said)


def _decided(
    home: CoordinatorHome,
    options: argparse.Namespace,
    kind: MessageKind,
    body: bytes,
    document: dict[str, Any],
    said: str,
) -> Shown:
    """Hands a transaction in, and waits for the block that decides."""
    decision = submit_and_wait(home, kind, body, options.wait, f"not done: {said}")
    return {**document, **decision.document()}, decision.text(said, said)


def _motion(home: CoordinatorHome, options: argparse.Namespace) -> Shown:
    match options.words:
        case ["show", file]:
            return motion_shown(home, _read(Path(file)))
        case ["approve", file]:
            motion = _read(Path(file))
            if motion.kind == MessageKind.ROLLBACK:
                # An approval vouches for the arithmetic: each validator makes the
                # version again by itself.
                version_rollback.remake_asked(home, ROLLBACK.unpack(motion.content))
            motion = approve(home, motion)
            write_atomic(options.out or Path(file), MOTION.pack(motion), _READABLE)
        case ["submit", file]:
            motion = _read(Path(file))
            _require_caught_up(home, motion, options)
            tip, validators = _tip(home)
            del tip
            try:
                fault_model = FaultModel(home.genesis().fault_model)
                # Checked here too: of a motion that a block refuses nobody hears why.
                motion.check(home.genesis().chain_id(), validators, fault_model)
            except ProtocolError as error:
                raise OperationError(f"not to be carried yet: {error}") from error
            submit(home, MessageKind(motion.kind), MOTION.pack(motion))
        case words:
            if options.out is None:
                raise ConfigError("name the file to write", key="--out")
            motion = drawn_up(home, *_content(words), options.blocks)
            _require_caught_up(home, motion, options)
            motion = approve(home, motion)
            write_atomic(options.out, MOTION.pack(motion), _READABLE)
    return motion_shown(home, motion)


def _require_caught_up(
    home: CoordinatorHome, motion: GovernanceProposal, options: argparse.Namespace
) -> None:
    """Checks that a validator to be added has the chain."""
    if motion.kind != MessageKind.VALSET or options.force:
        return
    # From its height on a new validator counts in each quorum: one that still learns
    # could make all wait.
    added = VALIDATOR_CHANGE.unpack(motion.content).added
    if added is not None:
        require_caught_up(home, added, options.wait)


def drawn_up(
    home: CoordinatorHome,
    kind: MessageKind,
    content: bytes,
    good_for: int = GOOD_FOR_BLOCKS,
) -> GovernanceProposal:
    """A motion that nobody approved yet, good for so many blocks."""
    tip, _ = _tip(home)
    header, genesis = tip.header, home.genesis()
    height = 0 if header is None else header.height
    now_ms = genesis.created_ms if header is None else header.time_ms
    # At the pace of an idle chain; both must be over for it to lapse.
    until_ms = now_ms + 1000 * genesis.heartbeat_s * good_for
    # The number of motions that were carried: this one lapses with the next, so that no
    # old approval is used twice.
    number = operator_records.motion_count(tip.tree)
    return GovernanceProposal(kind, number, height + good_for, until_ms, content)


def _content(words: list[str]) -> tuple[MessageKind, bytes]:
    try:
        match words:
            case ["operator-add" | "operator-remove" as verb, key]:
                operator = OperatorChange(int(verb == "operator-add"), public_key(key))
                return MessageKind.OPERATOR, OPERATOR_CHANGE.pack(operator)
            case ["validator-add", file]:
                one = read_identity(Path(file))
                added = Validator(one.public, one.sealing, one.name)
                change = ValidatorChange(added, None)
                return MessageKind.VALSET, VALIDATOR_CHANGE.pack(change)
            case ["validator-remove", key]:
                change = ValidatorChange(None, public_key(key))
                return MessageKind.VALSET, VALIDATOR_CHANGE.pack(change)
            case ["parameter", name, value, height]:
                wanted = ChainParameter[name.upper().replace("-", "_")]
                setting = ParameterChange(wanted, int(value), int(height))
                return MessageKind.PARAM, PARAMETER_CHANGE.pack(setting)
            case ["upgrade", version, height]:
                rules = UpgradeChange(int(version), int(height))
                return MessageKind.UPGRADE, UPGRADE_CHANGE.pack(rules)
            case _:
                pass
    except (ValueError, KeyError, ProtocolError) as error:
        raise ConfigError(f"{' '.join(words)}: {error}", key="motion") from error
    raise ConfigError(f"no such motion: {' '.join(words)}; see --help", key="motion")


def approve(home: CoordinatorHome, motion: GovernanceProposal) -> GovernanceProposal:
    """A motion with this validator's approval.

    Raises:
      OperationError: If the coordinator is none.
    """
    _, validators = _tip(home)
    key = home.signing_key()
    if validators.index_of(key.public) is None:
        raise OperationError("this coordinator is no validator: it approves nothing")
    return motion.approved(key, home.genesis().chain_id())


def motion_shown(home: CoordinatorHome, motion: GovernanceProposal) -> Shown:
    """A motion's terms, and who approved it."""
    tip, validators = _tip(home)
    members = validators.members
    approved = {approval.validator for approval in motion.approvals}
    names = [member.name for member in members if member.public in approved]
    needed = quorum(len(members), FaultModel(home.genesis().fault_model))
    count = operator_records.motion_count(tip.tree)
    says = proposal_text.says(motion)
    document = {
        "kind": MessageKind(motion.kind).name.lower(),
        "says": says,
        "number": motion.number,
        "until": motion.until,
        "until_ms": motion.until_ms,
        "approved_by": names,
        "needed": needed,
        "overtaken": motion.number != count,
    }
    text = f"{says}; approved by {', '.join(names)}, {needed} needed"
    if (gone := proposal_text.removed(motion)) is not None:
        text += (
            f"\nthen at each broker: starling broker expel {gone}; and where it ran: "
            "starling coordinator retire"
        )
    if motion.number != count:
        text += "; ANOTHER MOTION WAS CARRIED SINCE: draw it up again"
    return document, text


def _read(file: Path) -> GovernanceProposal:
    try:
        return MOTION.unpack(read_limited(file, MOTION.bytes_max))
    except ProtocolError as error:
        raise ConfigError(f"no motion: {error}", file=str(file)) from error


def deciding(home: CoordinatorHome) -> ValidatorSet:
    """The validators that decide the next block, by the stored chain."""
    return _tip(home)[1]


def _tip(home: CoordinatorHome) -> tuple[StoredHead, ValidatorSet]:
    """The stored chain's tip, and who decides the next block."""
    store = SqliteStore.read(home.state / CHAIN_FILE)
    with store.one_moment():
        tip = store.tip()
    store.close()
    height = 0 if tip.header is None else tip.header.height
    return tip, validator_records.validators(tip.tree, home.genesis(), height + 1)


def _packed(codec: Codec[_T], value: _T) -> bytes:
    try:
        return codec.pack(value)
    except ProtocolError as error:
        raise ConfigError(str(error)) from error


def _identity(name: str) -> DeviceId:
    try:
        return device_from_name(name)
    except ProtocolError as error:
        raise ConfigError(str(error), key="account") from error


def public_key(text: str) -> PublicKey:
    """Reads a key as people write it.

    Raises:
      ValueError: If it is none.
    """
    key = bytes.fromhex(text)
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key has {2 * KEY_BYTES} hexadecimal digits")
    return PublicKey(key)
