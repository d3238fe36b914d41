"""PARAM and UPGRADE: what the validators may change about the chain's own rules.

    parameter/<number>   `ParameterRecord`: a value, from when it counts, and what was
    before upgrade              the same for the version of the rules

Both are announced and begin at a height, so that everybody changes at once. A
coordinator whose release does not know the rules of a height stops before it, and says
so: it could only compute another state than the rest.
"""

from starling.coordinator.chain.governance import governance_proposals
from starling.coordinator.chain.state.overlay import BlockContext, StateOverlay
from starling.coordinator.chain.state.state_table import (
    StateReader,
    Table,
    alone,
    by_number,
)
from starling.protocol.chain.blocks import TRANSACTIONS_PER_BLOCK_MAX
from starling.protocol.chain.evidence import AGE_HEIGHTS_MAX
from starling.protocol.chain.genesis import Genesis
from starling.protocol.chain.governance import (
    PARAMETER_CHANGE,
    UPGRADE_CHANGE,
    ChainParameter,
)
from starling.protocol.errors import ConfigError, ProtocolError, Reason
from starling.protocol.ids import Digest
from starling.protocol.schema.msgpack_codec import (
    Structure,
    Uint,
    structure,
)
from starling.protocol.wire.envelope import Envelope

RULES_VERSION = 1
"""Of the rules in this release; a rule that changes results makes it one more."""
DELAY_BLOCKS = 2
UPGRADE_DELAY_BLOCKS = 10
_AHEAD_MAX = 1_000_000
"""Nothing is announced further ahead."""
_YEAR_S = 366 * 86_400
_BOUNDS = {
    ChainParameter.HEARTBEAT_S: (1, 86_400),
    ChainParameter.TRANSACTIONS_MAX: (1, TRANSACTIONS_PER_BLOCK_MAX),
    ChainParameter.JAIL_BLOCKS: (1, 1_000_000),
    ChainParameter.SCORE_BLOCKS: (1, 10_000),
    ChainParameter.JAIL_S: (0, _YEAR_S),
    ChainParameter.SCORE_S: (0, _YEAR_S),
    ChainParameter.EVIDENCE_S: (3_600, _YEAR_S),
}
JAIL_BLOCKS = 1_000
SCORE_BLOCKS = 100
_FIRST = {
    ChainParameter.TRANSACTIONS_MAX: TRANSACTIONS_PER_BLOCK_MAX,
    ChainParameter.JAIL_BLOCKS: JAIL_BLOCKS,
    ChainParameter.SCORE_BLOCKS: SCORE_BLOCKS,
}
_BLOCKS_OF = {
    ChainParameter.JAIL_S: JAIL_BLOCKS,
    ChainParameter.SCORE_S: SCORE_BLOCKS,
    ChainParameter.EVIDENCE_S: AGE_HEIGHTS_MAX,
}
"""A window's time is at first that of its blocks at the pace of an idle chain."""


class ParameterRecord(Structure, frozen=True):
    """A value that counts from a height on.

    Attributes:
      value: What counts then.
      height: From which height.
      before: What counts until then.
    """

    value: Uint
    height: Uint
    before: Uint


_SETTING = structure(ParameterRecord, 48)
_PARAMETERS = Table(b"parameter/", by_number, _SETTING)
"""By number: parameters that were changed."""
_UPGRADE = Table(b"upgrade", alone, _SETTING)
"""The latest version of the rules that was announced."""


def parameter(
    tree: StateReader, genesis: Genesis, wanted: ChainParameter, height: int
) -> int:
    """The value of a parameter at a height.

    Args:
      tree: A state after the block before that height, or a draft over it.
      genesis: What the chain started from.
      wanted: Which parameter.
      height: Which height.
    """
    found = _PARAMETERS.get(tree, wanted)
    if found is None and wanted is ChainParameter.HEARTBEAT_S:
        return genesis.heartbeat_s
    if found is None and wanted in _BLOCKS_OF:
        # A slow heartbeat would give times beyond the bounds of a change.
        return min(_YEAR_S, _BLOCKS_OF[wanted] * genesis.heartbeat_s)
    if found is None:
        return _FIRST[wanted]
    return found.value if height >= found.height else found.before


def span_ms(
    tree: StateReader, genesis: Genesis, wanted: ChainParameter, height: int
) -> int:
    """A parameter in seconds, as milliseconds of header time."""
    return 1000 * parameter(tree, genesis, wanted, height)


def rules_version(tree: StateReader, height: int) -> int:
    """The version of the rules that a height's block is executed by."""
    found = _UPGRADE.get(tree)
    if found is None:
        # Chains begin with version 1 and have no record of it.
        return 1
    return found.value if height >= found.height else found.before


def require_known_rules(tree: StateReader, height: int) -> None:
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


def change_parameter(
    draft: StateOverlay, context: BlockContext, envelope: Envelope, identity: Digest
) -> None:
    """Announces another value of a parameter.

    Raises:
      ProtocolError: As `governance_proposals.carried`; POLICY_MISMATCH, for an unknown
        parameter, a value out of bounds or a height too near or far; BUSY, while a
        change of it is on its way.
    """
    del identity
    change = PARAMETER_CHANGE.unpack(
        governance_proposals.carried(draft, context, envelope).content
    )
    try:
        wanted = ChainParameter(change.parameter)
    except ValueError as error:
        raise ProtocolError("no such parameter", Reason.POLICY_MISMATCH) from error
    least, most = _BOUNDS[wanted]
    if not least <= change.value <= most:
        detail = f"{wanted.name.lower()}: {least} to {most}"
        raise ProtocolError(detail, Reason.POLICY_MISMATCH)
    # At this height, so that the old value counts until the new one's.
    before = parameter(draft, context.genesis, wanted, context.height)
    setting = ParameterRecord(change.value, change.height, before)
    _check_announced(context, _PARAMETERS.get(draft, wanted), setting)
    _PARAMETERS.put(draft, setting, wanted)


def upgrade(
    draft: StateOverlay, context: BlockContext, envelope: Envelope, identity: Digest
) -> None:
    """Announces the next version of the rules.

    Raises:
      ProtocolError: As `governance_proposals.carried`; POLICY_MISMATCH, if it is not
        the next version or the height too near or far; BUSY, while one is on its way.
    """
    del identity
    change = UPGRADE_CHANGE.unpack(
        governance_proposals.carried(draft, context, envelope).content
    )
    present = rules_version(draft, context.height)
    known = _UPGRADE.get(draft)
    # While one is pending its number is not looked at: `_check_announced` says BUSY.
    pending = known is not None and context.height < known.height
    if not pending and change.version != present + 1:
        detail = f"version {change.version} after {present}"
        raise ProtocolError(detail, Reason.POLICY_MISMATCH)
    # Above the common delay: people must install a release by then.
    if change.height - context.height < UPGRADE_DELAY_BLOCKS:
        detail = f"at least {UPGRADE_DELAY_BLOCKS} blocks ahead"
        raise ProtocolError(detail, Reason.POLICY_MISMATCH)
    setting = ParameterRecord(change.version, change.height, present)
    _check_announced(context, known, setting)
    _UPGRADE.put(draft, setting)


def _check_announced(
    context: BlockContext, known: ParameterRecord | None, setting: ParameterRecord
) -> None:
    if known is not None and context.height < known.height:
        raise ProtocolError("a change is on its way", Reason.BUSY)
    if not DELAY_BLOCKS <= setting.height - context.height <= _AHEAD_MAX:
        detail = f"{DELAY_BLOCKS} to {_AHEAD_MAX} blocks ahead"
        raise ProtocolError(detail, Reason.POLICY_MISMATCH)
