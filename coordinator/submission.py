"""Between the coordinator and its ledger: transactions in, blocks out."""

from typing import assert_never

from coordinator import finality, pace
from coordinator.effects import Refuse
from coordinator.ledger import fork, node, wire
from coordinator.turn import Turn
from protocol.envelope import Envelope
from protocol.ids import device_id


def submit(turn: Turn, envelope: Envelope) -> None:
    """Hands a transaction whose signature was checked to the ledger."""
    advance(turn, node.Submitted(envelope))


def submit_upload(turn: Turn, update: Envelope) -> None:
    """Hands an admitted update to the ledger.

    What boards publish reaches every coordinator at their broker, so that nobody there
    needs to be told. Who missed it asks when a block names it, and hears of it if it
    waits for long.
    """
    advance(turn, node.Submitted(update, tells=not turn.settings.shared))


def advance(turn: Turn, event: node.Event) -> None:
    """Lets the ledger take one step, and acts on what it decides and refuses."""
    ledger, effects = node.step(
        turn.settings.ledger, turn.ledger, event, turn.now_s, turn.now_ms
    )
    pace.note(turn, ledger)
    turn.ledger = ledger
    for effect in effects:
        match effect:
            case node.StoreBlock():
                turn.emit(effect)
                finality.block_decided(turn, effect)
            case node.RefuseTransaction(identity, reason, detail):
                finality.transaction_refused(turn, identity, reason, detail)
            case node.BlamePeer(reason, detail, signer):
                whose = turn.speaker if signer is None else device_id(signer)
                turn.emit(Refuse(None, reason, detail, whose))
            case node.Diverged():
                pace.diverged(turn, effect)
            case node.StoreFork(payload):
                turn.emit(effect)
                turn.report(_about(turn, payload))
            case node.JournalVote() | node.Gossip():
                turn.emit(effect)
            case _:
                assert_never(effect)


def _about(turn: Turn, payload: bytes) -> str:
    members = turn.ledger.party.roster.validators.members
    proof = wire.FORK.unpack(payload)
    liars = [members[index].name for index in sorted(fork.liars(proof))]
    return (
        f"two blocks of height {proof.first.height} are certified: more lied than are "
        f"allowed for ({', '.join(liars) or 'who is not known'}); nothing is decided "
        "any more"
    )
