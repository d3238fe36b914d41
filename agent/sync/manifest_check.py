"""Manifests: a newer version is believed if its proof holds, and then priced.

A manifest of another task is refused, or, if the owner wants that, leads the board over
to the newest task that is open, as far as the chain proves it. A task stays what it was
when it was first believed.
"""

import math
from functools import lru_cache

from starling.agent.step.agent_step import AgentStep
from starling.agent.step.effects import PersistTrust, Spend
from starling.agent.step.state import (
    AgentSettings,
    AgentState,
    ProvenVersion,
    ReadinessCondition,
    slot_of,
)
from starling.agent.sync import model_download, validator_set_changes
from starling.protocol.chain.light_client import MANIFEST, ModelManifest
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import (
    BudgetExceeded,
    LimitError,
    Reason,
    TaskChanged,
)
from starling.protocol.ids import H, TaskId
from starling.protocol.learning.task import E12, LABEL_RESPONSE, MICRO, PrivacyPolicy
from starling.protocol.schema.msgpack_codec import UINT_MAX

EPSILON_UNBOUNDED = UINT_MAX
"""What a board shows that has released something without noise."""
_DELTA_WITHOUT_TASK = 1e-5
"""At which releases are shown, where neither owner nor task names one."""
_OTHERS_MAX = 16
"""Tasks of others that are remembered, each for one line in the log."""


def handle_manifest(step: AgentStep, payload: bytes) -> None:
    """Believes a newer version of our task if its proof holds.

    Raises:
      ProtocolError: If it is malformed or proves nothing.
    """
    manifest = _unpacked(payload)
    known = step.state.offer
    if manifest.task != step.settings.task:
        _other_task(step, manifest)
        return
    if known is not None and manifest.version <= known.version:
        _follow(step, manifest)
        return
    trusted, spec = manifest.check(step.state.trusted)
    is_over = manifest.is_over
    if spec.bundle_bytes > step.settings.bundle_bytes_max:
        fault = f"the task's bundle of {spec.bundle_bytes} bytes is too large for us"
        # For the status: of the error itself only a line in the log remains.
        step.state = evolve(step.state, fault=fault)
        raise LimitError(fault)
    # Before anything of the manifest is used: other terms under a known number would
    # ask the same data a new question.
    _believe(step, manifest)
    validator_set_changes.report_transitions(step, trusted, manifest.handovers)
    offer = ProvenVersion(
        manifest.version,
        spec,
        manifest.model,
        manifest.header.height,
        manifest.rolled_version,
    )
    step.state = evolve(
        step.state,
        trusted=trusted,
        offer=offer,
        older=model_download.pulled_last(step.state),
        asking=None,
        swapped=False,
    )
    step.emit(PersistTrust(trusted, payload))
    if known is None or known.rolled < manifest.rolled_version:
        _report_rollback(step, manifest)
    if is_over:
        _own_is_over(step)
    price(step)


def _report_rollback(step: AgentStep, manifest: ModelManifest) -> None:
    """Says that a version was not made by updates, but again without some boards."""
    rolled = manifest.rolled_back
    if rolled is None:
        return
    ours = step.settings.identity in rolled.without
    version = manifest.rolled_version
    step.note(
        f"version {version} is version {rolled.again} made again without "
        f"{len(rolled.without)} boards from version {rolled.first} on, as a quorum of "
        f"the coordinators decided{'; this board is one of them' if ours else ''}",
        warns=True,
    )


def _believe(step: AgentStep, manifest: ModelManifest) -> None:
    """Holds the task to what it was at first, on the disk before anything is done.

    Whoever may change bundle, clip, noise or budget from one version to the next asks
    the data set a new question each time.

    Raises:
      TaskChanged: If the manifest is for another task of the same number.
    """
    state = step.state
    terms = H(b"starling/terms/1", manifest.task_proof.value)
    try:
        ledger, entry = state.ledger.believe(state.chain, manifest.task, terms)
    except TaskChanged:
        step.state = evolve(
            state, swapped=True, swaps=state.swaps + 1, asking=None, fetch=None
        )
        raise
    if entry is not None:
        step.state = evolve(state, ledger=ledger)
        step.emit(Spend(entry))


def _other_task(step: AgentStep, manifest: ModelManifest) -> None:
    """An agent serves one task, so that one ledger and one spool are enough.

    It may change over to another one, if the chain has it and it is not over.

    Raises:
      ProtocolError: If the task, or its end, is not proven.
    """
    task, state = manifest.task, step.state
    if not step.settings.newest:
        _refuse_task(step, task)
        return
    if task in state.over or (task in state.open and not manifest.is_over):
        return
    # Last, since it costs signatures: manifests that change nothing end above.
    manifest.check(state.trusted)
    if manifest.is_over:
        after = evolve(state, open=state.open - {task}, over=state.over | {task})
    else:
        after = evolve(state, open=state.open | {task})
    _look_around(step, after)


def _own_is_over(step: AgentStep) -> None:
    """Our task grants no more leases: what waits for one is sent as it is."""
    state, ours = step.state, step.settings.task
    if ours in state.over:
        return
    step.note(f"task {ours} is over: it was closed, or has ended")
    waiting = tuple(evolve(item, unleased=False) for item in state.waiting)
    _look_around(step, evolve(state, over=state.over | {ours}, waiting=waiting))


def _look_around(step: AgentStep, after: AgentState) -> None:
    """Says to which task the board changes over, if that is another one than before."""
    before = next_task(step.settings, step.state)
    step.state, following = after, next_task(step.settings, after)
    if following not in (None, before):
        step.note(f"the board changes over to task {following}")


def next_task(settings: AgentSettings, state: AgentState) -> TaskId | None:
    """The task to change over to: the newest that is open; None if it is ours."""
    ours = settings.task
    others = [task for task in state.open if task > ours or ours in state.over]
    return max(others, default=None)


def changes_over(settings: AgentSettings, state: AgentState) -> bool:
    """True once another task may be gone on with: nothing paid for is under way."""
    following = next_task(settings, state)
    return following is not None and not state.waiting and state.training is None


def _refuse_task(step: AgentStep, task: int) -> None:
    others = step.state.others
    if task not in others and len(others) < _OTHERS_MAX:
        step.state = evolve(step.state, others=others | {task})
        ours = step.settings.task
        step.note(f"task {task} refused: this board has task {ours}, one at a time")


def _follow(step: AgentStep, manifest: ModelManifest) -> None:
    """Learns of other validators, and of an end, from a version that is known."""
    if manifest.is_over and manifest.task not in step.state.over:
        manifest.check(step.state.trusted)
        _own_is_over(step)
    before = step.state.trusted
    # A manifest may bring newer validators with a version that is known already.
    trusted = before.follow(manifest.handovers)
    if trusted is not before:
        validator_set_changes.report_transitions(step, trusted, manifest.handovers)
        step.state = evolve(step.state, trusted=trusted)


@lru_cache(maxsize=1)
def _unpacked(payload: bytes) -> ModelManifest:
    """The retained manifest comes again with each connection."""
    return MANIFEST.unpack(payload)


def price(step: AgentStep) -> None:
    """Asks the ledger whether it would pay for the newest version."""
    offer = step.state.offer
    if offer is None:
        return
    slot = slot_of(step.state, step.settings.task, offer.version)
    refusal = None
    try:
        step.state.ledger.quote(slot, offer.spec.privacy, step.settings.windows)
    except BudgetExceeded as error:
        refusal = {
            Reason.REPLAYED: ReadinessCondition.TOOK_PART,
            Reason.POLICY_MISMATCH: ReadinessCondition.POLICY_REFUSED,
        }.get(error.reason, ReadinessCondition.BUDGET_SPENT)
        # Said when it begins, and not again with each version.
        if refusal not in (ReadinessCondition.TOOK_PART, step.state.refusal):
            step.note(f"{refusal.value}: {error}", warns=True)
    spent_micro = _epsilon_micro(step, offer.spec.privacy)
    step.state = evolve(step.state, refusal=refusal, spent_micro=spent_micro)


def _epsilon_micro(step: AgentStep, policy: PrivacyPolicy) -> int:
    """Epsilon paid over everything, rounded up; `EPSILON_UNBOUNDED` for no bound.

    Under a task that has labels drawn: what each label pays to it, once.
    """
    ledger = step.state.ledger
    if ledger.exposed or ledger.spent:
        return EPSILON_UNBOUNDED
    if policy.mechanism == LABEL_RESPONSE:
        lineage = step.state.chain, step.settings.task
        began = any(slot[:2] == lineage for slot in ledger.charges)
        return policy.epsilon_micro if began else 0
    if not ledger.paid:
        return 0
    stated = policy.delta_e12 / E12 or _DELTA_WITHOUT_TASK
    delta = None if ledger.cap is not None else stated
    return math.ceil(ledger.epsilon(delta) * MICRO)
