"""PARAM and UPGRADE: what the validators may change about the chain's own rules.

    parameter/<number>   `Setting`: a value, from when it counts, and what was before
    upgrade              the same for the version of the rules

Both are announced and begin at a height, so that everybody changes at once. A
coordinator whose release does not know the rules of a height stops before it, and says
so: it could only compute another state than the rest.
"""

from dataclasses import dataclass

from coordinator.ledger import motions
from coordinator.ledger.draft import Context, Draft
from coordinator.ledger.views import Reader
from protocol.chain import TRANSACTIONS_PER_BLOCK_MAX
from protocol.codec import structure, uint
from protocol.envelope import Envelope
from protocol.errors import ConfigError, ProtocolError, Reason
from protocol.evidence import AGE_HEIGHTS_MAX
from protocol.genesis import Genesis
from protocol.ids import Digest
from protocol.motion import PARAMETER_CHANGE, UPGRADE_CHANGE, Parameter

RULES_VERSION = 1
"""Of the rules in this release; a rule that changes results makes it one more."""
DELAY_BLOCKS = 2
UPGRADE_DELAY_BLOCKS = 10
_AHEAD_MAX = 1_000_000
"""Nothing is announced further ahead."""
_YEAR_S = 366 * 86_400
_UPGRADE_KEY = b"upgrade"
_BOUNDS = {
    Parameter.HEARTBEAT_S: (1, 86_400),
    Parameter.TRANSACTIONS_MAX: (1, TRANSACTIONS_PER_BLOCK_MAX),
    Parameter.JAIL_BLOCKS: (1, 1_000_000),
    Parameter.SCORE_BLOCKS: (1, 10_000),
    Parameter.JAIL_S: (0, _YEAR_S),
    Parameter.SCORE_S: (0, _YEAR_S),
    Parameter.EVIDENCE_S: (3_600, _YEAR_S),
}
JAIL_BLOCKS = 1_000
SCORE_BLOCKS = 100
_FIRST = {
    Parameter.TRANSACTIONS_MAX: TRANSACTIONS_PER_BLOCK_MAX,
    Parameter.JAIL_BLOCKS: JAIL_BLOCKS,
    Parameter.SCORE_BLOCKS: SCORE_BLOCKS,
}
_BLOCKS_OF = {
    Parameter.JAIL_S: JAIL_BLOCKS,
    Parameter.SCORE_S: SCORE_BLOCKS,
    Parameter.EVIDENCE_S: AGE_HEIGHTS_MAX,
}
"""A window's time is at first that of its blocks at the pace of an idle chain."""


@dataclass(frozen=True)
class Setting:
    """A value that counts from a height on.

    Attributes:
      value: What counts then.
      height: From which height.
      before: What counts until then.
    """

    value: int
    height: int
    before: int


_SETTING = structure(Setting, 48, uint(), uint(), uint())


def parameter_key(parameter: int) -> bytes:
    """Where a parameter stands once it was changed."""
    return b"parameter/%d" % parameter


def parameter(tree: Reader, genesis: Genesis, wanted: Parameter, height: int) -> int:
    """The value of a parameter at a height.

    Args:
      tree: A state after the block before that height, or a draft over it.
      genesis: What the chain started from.
      wanted: Which parameter.
      height: Which height.
    """
    found = _setting(tree, parameter_key(wanted))
    if found is None and wanted is Parameter.HEARTBEAT_S:
        return genesis.heartbeat_s
    if found is None and wanted in _BLOCKS_OF:
        return min(_YEAR_S, _BLOCKS_OF[wanted] * genesis.heartbeat_s)
    if found is None:
        return _FIRST[wanted]
    return found.value if height >= found.height else found.before


def span_ms(tree: Reader, genesis: Genesis, wanted: Parameter, height: int) -> int:
    """A parameter in seconds, as milliseconds of header time."""
    return 1000 * parameter(tree, genesis, wanted, height)


def rules_version(tree: Reader, height: int) -> int:
    """The version of the rules that a height's block is executed by."""
    found = _setting(tree, _UPGRADE_KEY)
    if found is None:
        return 1
    return found.value if height >= found.height else found.before


def require_known_rules(tree: Reader, height: int) -> None:
    """Stops what cannot be executed here.

    Raises:
      ConfigError: If the height has rules that this release does not know.
    """
    version = rules_version(tree, height)
    if version > RULES_VERSION:
        raise ConfigError(
            f"from height {height} on the chain has rules of version {version}, and "
            f"this release knows {RULES_VERSION}: install a newer one and start again"
        )


def _setting(tree: Reader, key: bytes) -> Setting | None:
    packed = tree.get(key)
    return None if packed is None else _SETTING.unpack(packed)


def change_parameter(
    draft: Draft, context: Context, envelope: Envelope, identity: Digest
) -> None:
    """Announces another value of a parameter.

    Raises:
      ProtocolError: As `motions.carried`; POLICY_MISMATCH, for an unknown parameter, a
        value out of bounds or a height too near or far; BUSY, while a change of it is
        on its way.
    """
    del identity
    change = PARAMETER_CHANGE.unpack(motions.carried(draft, context, envelope).content)
    try:
        wanted = Parameter(change.parameter)
    except ValueError as error:
        raise ProtocolError("no such parameter", Reason.POLICY_MISMATCH) from error
    least, most = _BOUNDS[wanted]
    if not least <= change.value <= most:
        detail = f"{wanted.name.lower()}: {least} to {most}"
        raise ProtocolError(detail, Reason.POLICY_MISMATCH)
    before = parameter(draft, context.genesis, wanted, context.height)
    key = parameter_key(wanted)
    _announce(draft, context, key, Setting(change.value, change.height, before))


def upgrade(
    draft: Draft, context: Context, envelope: Envelope, identity: Digest
) -> None:
    """Announces the next version of the rules.

    Raises:
      ProtocolError: As `motions.carried`; POLICY_MISMATCH, if it is not the next
        version or the height too near or far; BUSY, while one is on its way.
    """
    del identity
    change = UPGRADE_CHANGE.unpack(motions.carried(draft, context, envelope).content)
    present = rules_version(draft, context.height)
    known = _setting(draft, _UPGRADE_KEY)
    pending = known is not None and context.height < known.height
    if not pending and change.version != present + 1:
        detail = f"version {change.version} after {present}"
        raise ProtocolError(detail, Reason.POLICY_MISMATCH)
    if change.height - context.height < UPGRADE_DELAY_BLOCKS:
        detail = f"at least {UPGRADE_DELAY_BLOCKS} blocks ahead"
        raise ProtocolError(detail, Reason.POLICY_MISMATCH)
    setting = Setting(change.version, change.height, present)
    _announce(draft, context, _UPGRADE_KEY, setting)


def _announce(draft: Draft, context: Context, key: bytes, setting: Setting) -> None:
    known = _setting(draft, key)
    if known is not None and context.height < known.height:
        raise ProtocolError("a change is on its way", Reason.BUSY)
    if not DELAY_BLOCKS <= setting.height - context.height <= _AHEAD_MAX:
        detail = f"{DELAY_BLOCKS} to {_AHEAD_MAX} blocks ahead"
        raise ProtocolError(detail, Reason.POLICY_MISMATCH)
    draft.put(key, _SETTING.pack(setting))
