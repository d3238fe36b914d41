"""Motions in words: what validators are asked to approve."""

from starling.protocol.chain.governance import (
    OPERATOR_CHANGE,
    PARAMETER_CHANGE,
    UPGRADE_CHANGE,
    VALIDATOR_CHANGE,
    ChainParameter,
    GovernanceProposal,
)
from starling.protocol.chain.task_rollback import ROLLBACK
from starling.protocol.errors import ConfigError
from starling.protocol.ids import device_id, device_name
from starling.protocol.wire.envelope import MessageKind


def removed(motion: GovernanceProposal) -> str | None:
    """The broker's name of whom a motion removes."""
    if motion.kind != MessageKind.VALSET:
        return None
    gone = VALIDATOR_CHANGE.unpack(motion.content).removed
    return None if gone is None else device_name(device_id(gone))


def says(motion: GovernanceProposal) -> str:
    """Change that a motion asks for, in one line.

    Raises:
      ConfigError: If its kind is no motion's.
    """
    match motion.kind:
        case MessageKind.OPERATOR:
            operator = OPERATOR_CHANGE.unpack(motion.content)
            verb = "admit" if operator.admitted else "take out"
            return f"{verb} operator {operator.operator.hex()}"
        case MessageKind.VALSET:
            change = VALIDATOR_CHANGE.unpack(motion.content)
            if change.added is not None:
                added = change.added
                return f"add validator {added.name} {added.public.hex()}"
            assert change.removed is not None
            return f"remove validator {change.removed.hex()}"
        case MessageKind.PARAM:
            setting = PARAMETER_CHANGE.unpack(motion.content)
            name = ChainParameter(setting.parameter).name.lower()
            return f"{name} is {setting.value} from height {setting.height} on"
        case MessageKind.UPGRADE:
            rules = UPGRADE_CHANGE.unpack(motion.content)
            return f"rules of version {rules.version} from height {rules.height} on"
        case MessageKind.ROLLBACK:
            asked = ROLLBACK.unpack(motion.content)
            names = ", ".join(device_name(board) for board in asked.without)
            return (
                f"version {asked.again} of task {asked.task} made again without what "
                f"{names} sent after version {asked.first}"
            )
        case _:
            raise ConfigError(f"kind {motion.kind} is no motion", key="motion")
