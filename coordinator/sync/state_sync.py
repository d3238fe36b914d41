"""Getting the state from others, where they no longer have the blocks that led to it.

Whoever is asked for pruned blocks answers with the manifest of its newest snapshot. If
the validators that we trust certified it, its buckets are asked for, of one coordinator
after the other, and each is checked against the manifest as it comes. Once all are here
the chain begins anew from the snapshot, and the core is started anew.
"""

from dataclasses import replace

from starling.coordinator.chain.gossip_messages import FrameSubject
from starling.coordinator.chain.storage.snapshot import unpack_bucket
from starling.coordinator.downloads import request_scheduler
from starling.coordinator.step.coordinator_step import CoordinatorStep
from starling.coordinator.step.effects import AdoptSnapshot
from starling.coordinator.step.state import StateSync
from starling.coordinator.wire.frames import (
    CHANGES_MAX,
    BucketsAnswer,
    SnapshotAnswer,
    blocks_key,
    buckets_key,
)
from starling.protocol.chain.genesis import FaultModel
from starling.protocol.chain.light_client import TrustedState, ValidatorSetGap
from starling.protocol.crypto.state_tree import BUCKETS
from starling.protocol.dataclass_replace import evolve
from starling.protocol.errors import ProofError
from starling.protocol.ids import DeviceId


def snapshot_received(
    step: CoordinatorStep, who: DeviceId, given: SnapshotAnswer
) -> None:
    """Takes the manifest of a snapshot in answer to a request for blocks.

    Raises:
      ProofError, SignatureError: If validators that we trust did not certify it; as
        `ValidatorSetGap` if more changes of them lie between than a peer may show.
    """
    del who
    height = step.state.ledger.consensus.height
    asked = request_scheduler.request_key(FrameSubject.BLOCKS, blocks_key(height))
    # Unasked manifests are not looked at, and one download is enough.
    if asked not in step.state.wanted or step.state.restoring is not None:
        return
    tip = step.state.ledger.tip
    if given.manifest.header.height <= tip.height:
        return
    fault_model = FaultModel(tip.genesis.fault_model)
    start = TrustedState(tip.chain_id, fault_model, tip.height, tip.roster.validators)
    try:
        trusted = start.follow(given.ends)
    except ValidatorSetGap:
        step.report(
            f"the validators changed more than {CHANGES_MAX} times since height "
            f"{tip.height}, or somebody says so: to get there, copy chain.sqlite3 of a "
            "coordinator, and check it by `starling chain verify`"
        )
        raise
    _check_pinned(step, start, given)
    given.manifest.check(trusted)
    # What is said of changes that we know was not checked: ours stand.
    ends = tuple(end for end in given.ends if end.header.height > tip.height)
    restoring = StateSync(given.manifest, ends)
    step.state = evolve(step.state, restoring=restoring)
    step.report(
        f"the others have no blocks from height {height} on: getting the state of "
        f"height {given.manifest.header.height}"
    )
    request_scheduler.forget(step, [asked])
    _request_next(step, restoring)


def _check_pinned(
    step: CoordinatorStep, start: TrustedState, given: SnapshotAnswer
) -> None:
    """Refuses a snapshot of another past than the pinned header's.

    Where it lies beyond that header, the sets that lead to it must be those that the
    header names at its height; where it lies before, blocks lead there afterwards.

    Raises:
      ProofError: If it does not fit.
    """
    pinned, header = step.state.ledger.tip.pinned, given.manifest.header
    if pinned is None or pinned.last is None or pinned.height <= start.height:
        return
    if header.height == pinned.height:
        fits = header.block_id() == pinned.last.header.block_id()
    elif header.height > pinned.height:
        before = [end for end in given.ends if end.header.height <= pinned.height]
        fits = start.follow(before).validators == pinned.validators
    else:
        fits = True
    if not fits:
        step.report(
            f"a snapshot of height {header.height} leads past the pinned block of "
            f"height {pinned.height}: another past, which retired keys may have signed"
        )
        raise ProofError("another past than the pinned header's")


def _request_next(step: CoordinatorStep, restoring: StateSync) -> None:
    height, first = restoring.manifest.header.height, len(restoring.buckets)
    request_scheduler.request_blob(
        step,
        [
            request_scheduler.request_key(
                FrameSubject.BUCKETS, buckets_key(height, first)
            )
        ],
    )


def buckets_received(
    step: CoordinatorStep, who: DeviceId, given: BucketsAnswer
) -> None:
    """Takes buckets that we asked for; the first that is wrong ends the range.

    Raises:
      ProofError, DecodeError: If one is not the manifest's.
    """
    del who
    # It may be overtaken by blocks: then this drops it first.
    is_syncing(step)
    restoring = step.state.restoring
    if restoring is None or restoring.complete:
        return
    place = (restoring.manifest.header.height, len(restoring.buckets))
    if (given.height, given.first) != place:
        return
    asked = request_scheduler.request_key(FrameSubject.BUCKETS, buckets_key(*place))
    # Not more than there are, whatever the peer gave.
    for packed in given.buckets[: BUCKETS - given.first]:
        number = len(restoring.buckets)
        root = restoring.manifest.buckets[number]
        checked = unpack_bucket(packed, number, root)
        restoring = replace(restoring, buckets=(*restoring.buckets, checked))
    # Asked for under its first bucket: the next request has another key.
    request_scheduler.forget(step, [asked])
    step.state = evolve(step.state, restoring=restoring)
    if restoring.complete:
        state: dict[bytes, bytes] = {}
        for entries in restoring.buckets:
            state.update(entries)
        step.emit(AdoptSnapshot(restoring.manifest, restoring.ends, state))
        return
    _request_next(step, restoring)


def is_syncing(step: CoordinatorStep) -> bool:
    """True while a snapshot is downloaded; drops it once it is of no use.

    Nobody may give it any more, or the chain may have come as far in the meantime: it
    must not go back.
    """
    restoring = step.state.restoring
    if restoring is None:
        return False
    height = restoring.manifest.header.height
    place = (height, len(restoring.buckets))
    key = request_scheduler.request_key(FrameSubject.BUCKETS, buckets_key(*place))
    if restoring.complete:
        return True
    if key not in step.state.wanted or height <= step.state.ledger.height:
        request_scheduler.forget(step, [key])
        step.state = evolve(step.state, restoring=None)
    return step.state.restoring is not None
