"""Table of refusal reasons: meaning, remedy, and when trying again makes sense.

A refusal travels as the number of its `Reason`; the rest is here, for coordinators that
tell boards when to try again and for the page that operators read (docs/refusals.md).
"""

from dataclasses import dataclass

from starling.protocol.errors import Reason


@dataclass(frozen=True)
class RefusalReason:
    """One reason why a message is refused.

    Attributes:
      reason: Its number on the wire.
      meaning: The fact that it states.
      remedy: Action of the operator, or the statement that none is needed.
      retry_after_s: Seconds after which a board that is told tries again; 0 if the
        same message is refused for good.
    """

    reason: Reason
    meaning: str
    remedy: str
    retry_after_s: int = 0


_NONE = "None is needed: "

_ROWS = (
    RefusalReason(
        Reason.MALFORMED,
        "The bytes are not one canonical value of the expected form, or its fields "
        "contradict each other.",
        "Install the same release on sender and receiver. If it stays, the sender's "
        "software or its link is faulty.",
    ),
    RefusalReason(
        Reason.TOO_LARGE,
        "More bytes, items or depth than the named limit.",
        "Compare the log's figure with the limit in protocol.md; publish a smaller "
        "model or a codec with fewer bytes.",
    ),
    RefusalReason(
        Reason.BAD_SIGNATURE,
        "The signature does not verify for the sender's key on this chain.",
        "Check that sender and receiver belong to one fleet; have an operator admit "
        "the board again if its home is of another chain.",
    ),
    RefusalReason(
        Reason.NOT_ENROLLED,
        "The chain knows no such board, key or account, or the board was revoked.",
        "`starling coordinator admit` the board; one that was revoked comes back with "
        "a new home alone. Right after that the transaction may still be on its way "
        "into a block, and the board tries again by itself.",
        10,
    ),
    RefusalReason(
        Reason.REPLAYED,
        "The sender used this counter before.",
        "Stop the second process or copied home that signs with the same key. A home "
        "from an old backup learns from the chain what it has paid.",
    ),
    RefusalReason(
        Reason.NO_LEASE,
        "The update has no lease of this coordinator for its task and version.",
        _NONE + "the board asks for a lease.",
        30,
    ),
    RefusalReason(
        Reason.STALE,
        "The base version, height or deadline that it names is over.",
        _NONE + "boards train from the newest version. If boards are always too slow, "
        "raise `staleness_max` in the next task. Sign an overdue motion again.",
    ),
    RefusalReason(
        Reason.UNKNOWN_TASK,
        "No such task is on the chain.",
        "Publish it, or correct `training.task` in agent.toml. A new task may still be "
        "on its way into a block.",
        10,
    ),
    RefusalReason(
        Reason.SHAPE_MISMATCH,
        "The vector has another length or codec than the task's, or a list another "
        "length than what it is about.",
        "Install the same release on board and coordinator; the board fetches the "
        "task's bundle anew.",
    ),
    RefusalReason(
        Reason.NON_FINITE,
        "The vector holds an infinity or a NaN.",
        "Look at the board's data and learning rate; if neither explains it, at its "
        "memory.",
    ),
    RefusalReason(
        Reason.NORM_EXCEEDED,
        "The vector is longer than any honest one under the task's policy.",
        "Raise `norm_max` of a task without noise. With noise an honest board exceeds "
        "the bound less than once in 10^9 updates: examine the board.",
    ),
    RefusalReason(
        Reason.BUDGET_EXCEEDED,
        "The board's privacy budget does not cover the charge.",
        "The owner of the data may raise `privacy.epsilon` in agent.toml; otherwise "
        "the board has taken part for as long as it may.",
    ),
    RefusalReason(
        Reason.EQUIVOCATION,
        "The sender signed something else for the same version, height or round.",
        "Stop the second process or copied home that signs with the same key: it costs "
        "a tenth of a board's deposit, or all of a validator's.",
    ),
    RefusalReason(
        Reason.NOT_SEALED_TO_ME,
        "No box of the update opens with this coordinator's sealing key.",
        _NONE + "another coordinator passes on the content key. If it stays for all "
        "boards, the coordinator's sealing key is not the one in the validator set.",
    ),
    RefusalReason(
        Reason.COMMITMENT_MISMATCH,
        "The bytes differ from the digest that was signed for them.",
        "Look at the disk and the link of the sender; one that repeats it is faulty or "
        "lies.",
    ),
    RefusalReason(
        Reason.NOT_AUTHORISED,
        "The signer is not the party that may decide this.",
        "Sign with an operator's key, with a validator's, or with the board's present "
        "key, as chain.md says of the transaction.",
    ),
    RefusalReason(
        Reason.UNKNOWN_KIND,
        "The receiver knows no such kind of message, or does not take it there.",
        "Install the newer of the two releases on both sides.",
    ),
    RefusalReason(
        Reason.INCOMPLETE,
        "Chunks of the upload are missing.",
        _NONE + "the board sends them again.",
        5,
    ),
    RefusalReason(
        Reason.WRONG_CHAIN,
        "The header belongs to another chain.",
        "Give the board or coordinator the genesis of this fleet.",
    ),
    RefusalReason(
        Reason.ALREADY_KNOWN,
        "The same fact is on the chain or waits for a block.",
        _NONE + "an update that is known is as good as accepted.",
    ),
    RefusalReason(
        Reason.BUSY,
        "A bound on waiting work is reached, a rate limit is exceeded, or a change of "
        "the same kind is on its way.",
        "Wait. If it stays, look at `status`: disk, processor, missing coordinators.",
        5,
    ),
    RefusalReason(
        Reason.INVALID_BLOCK,
        "No honest validator proposes or certifies such a block.",
        "Examine the coordinator that is named; verify the own chain by "
        "`starling chain verify`.",
    ),
    RefusalReason(
        Reason.INVALID_PROOF,
        "The certificate, path, receipt or evidence does not prove what it claims.",
        "Check it against the genesis by `starling chain check-proof`; fetch it anew.",
    ),
    RefusalReason(
        Reason.POLICY_MISMATCH,
        "A value is out of the bounds of the task, the chain, or the rules.",
        "The message names the bound. A board with another mechanism, pledge or charge "
        "than the task's runs another release or bundle.",
    ),
    RefusalReason(
        Reason.INSUFFICIENT_FUNDS,
        "The account, pool or treasury holds less, or there is no such deposit.",
        "`starling coordinator transfer` or `fund` first.",
    ),
    RefusalReason(
        Reason.JAILED,
        "The board was convicted, and the blocks or the time of its jail are not over.",
        _NONE + "it takes part again by itself. Find the second process or copied home "
        "that signed with its key.",
    ),
    RefusalReason(
        Reason.NOT_HERE,
        "This coordinator does not have the bundle or model that was asked for.",
        _NONE + "the board asks another coordinator.",
    ),
    RefusalReason(
        Reason.PAUSED,
        "The task pauses, since its held-out loss has not fallen for as many versions "
        "as its guard waits, or it has ended.",
        "Publish a better task, or let a paused one go on by `starling coordinator "
        "resume-task`, one without credits by `fund`. Boards ask again by themselves, "
        "and spend nothing meanwhile.",
        60,
    ),
    RefusalReason(
        Reason.QUARANTINED,
        "The scores of the board's last updates spoke against it.",
        "Look at the board's data, its labels first; `starling reputation` shows what "
        "the chain knows of it. The quarantine ends by itself, each further one lasts "
        "twice as long.",
        300,
    ),
    RefusalReason(
        Reason.CLOSED,
        "An operator closed the task.",
        "Publish another one: boards whose `training.newest` is on go over to it, or "
        "back to an older one that is open. Or "
        "name another as `training.task` in agent.toml.",
        3600,
    ),
)

REFUSALS: dict[Reason, RefusalReason] = {row.reason: row for row in _ROWS}
"""The rows by their reasons, in the order of the wire's numbers."""
