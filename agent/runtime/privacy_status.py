"""Privacy in a board's status: the ledger of releases, and beside it that of labels."""

from typing import Any

from starling.agent.privacy.release_cost import label_losses
from starling.agent.step.state import AgentSettings, AgentState
from starling.agent.training.trainer_messages import LabelFacts
from starling.protocol.learning.task import LABEL_RESPONSE, MICRO
from starling.protocol.privacy.mechanisms import DEVICE_LEVEL, NONE

_DELTA_WITHOUT_CAP = 1e-5


def privacy_facts(settings: AgentSettings, state: AgentState) -> dict[str, Any]:
    """Account of the releases: what they have paid, and may still pay."""
    ledger, cap, offer = state.ledger, state.ledger.cap, state.offer
    left = None
    if offer is not None:
        left = ledger.releases_left(
            state.chain, settings.task, offer.spec.privacy, settings.windows
        )
    # No finite epsilon holds for what left without noise, or where all counts as spent.
    epsilon = None if ledger.exposed or ledger.spent else state.spent_micro / MICRO
    if epsilon is not None and _draws_labels(state):
        # Their account is another one; this is what releases of records paid.
        delta = _DELTA_WITHOUT_CAP if cap is None else cap.delta
        epsilon = ledger.epsilon(delta) if ledger.units else 0.0
    return {
        "unit": _unit(state),
        "epsilon": epsilon,
        "epsilon_cap": None if cap is None else cap.epsilon,
        "delta": None if cap is None else cap.delta,
        "releases": len(ledger.charges),
        "proven_elsewhere": sum(each.releases for each in ledger.proven),
        "carried": len(ledger.carried),
        "counts_as_spent": ledger.spent or None,
        "stated_height": state.told.height,
        "stated_by": len(state.told.by),
        "releases_left": left,
        "without_noise": ledger.exposed,
        "trusts_bundle": settings.trust_bundle,
    }


def label_account(
    settings: AgentSettings, state: AgentState, found: LabelFacts | None
) -> dict[str, Any] | None:
    """The account of labels; None where none were drawn and none may be."""
    draws = _draws_labels(state)
    drew = any(LABEL_RESPONSE in paid.kinds for paid in state.ledger.paid)
    if not (draws or drew or settings.labels_micro):
        return None
    each = state.offer.spec.privacy.epsilon_micro if state.offer and draws else None
    return {
        "unit": "label, drawn once; inputs are public",
        "epsilon": None if each is None else each / MICRO,
        "epsilon_cap": settings.labels_micro / MICRO,
        "epsilon_most": None if found is None else found.most_micro / MICRO,
        "answers": None if found is None else found.answers,
        "outdated": None if found is None else found.outdated,
        "left_out": None if found is None else found.left_out,
        "forgotten_draws": label_losses(state.ledger.paid),
    }


def _draws_labels(state: AgentState) -> bool:
    """True if the board's task has labels drawn."""
    offer = state.offer
    return offer is not None and offer.spec.privacy.mechanism == LABEL_RESPONSE


def _unit(state: AgentState) -> str | None:
    """Privacy unit of the noise: the weaker where both were paid; None for nothing."""
    mechanisms = {kind for paid in state.ledger.paid for kind in paid.kinds}
    if state.offer is not None:
        mechanisms.add(state.offer.spec.privacy.mechanism)
    # Something leaves without noise: no unit is protected.
    if NONE in mechanisms:
        return None
    mechanisms.discard(LABEL_RESPONSE)
    if not mechanisms:
        return None
    return "device" if mechanisms <= DEVICE_LEVEL else "record"
