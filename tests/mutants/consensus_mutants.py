"""Bugs that would void agreement or stop the chain, with the tests that must notice."""

from tests.mutants.mutant import Mutant

_QUORUMS = ("tests/unit/coordinator/chain/gossip/test_certificate_gossip.py",)
_REPAIR = ("tests/unit/coordinator/chain/gossip/test_vote_repair.py",)
_EXCHANGE = ("tests/unit/coordinator/chain/node/test_message_handlers.py",)
_ANSWERS = ("tests/unit/coordinator/chain/node/test_status_answers.py",)
_STATUSES = ("tests/unit/coordinator/chain/gossip/test_status_exchange.py",)
_LINES = (
    "tests/unit/coordinator/chain/consensus/test_tendermint.py",
    "tests/unit/coordinator/chain/consensus/test_vote_set.py",
)
_REWARDS = ("tests/unit/coordinator/chain/tasks/test_contribution_rewards.py",)

_SAFETY = (
    Mutant(
        "an older header is believed without its certificate",
        "protocol/chain/light_client.py",
        "        check_certificate(certificate, self.chain_id, certifiers, "
        "self.fault_model)\n        if rival",
        "        if header.height > self.height:\n"
        "            check_certificate(certificate, self.chain_id, certifiers, "
        "self.fault_model)\n        if rival",
        ("tests/unit/protocol/chain/test_light_client.py",),
        quick=True,
    ),
    Mutant(
        "a decision for a block that we hold needs no certificate",
        "coordinator/chain/node/message_handlers.py",
        "    check_certificate(\n        certificate, validator.chain_id, "
        "validators, validator.fault_model\n    )\n    fork_halt.check_parent",
        "    if block_id not in state.prepared:\n"
        "        check_certificate(\n            certificate, validator.chain_id, "
        "validators, validator.fault_model\n        )\n    fork_halt.check_parent",
        _EXCHANGE,
    ),
    Mutant(
        "line 36 takes prevotes for another reason than the proposal's",
        "coordinator/chain/consensus/tendermint.py",
        "        if set(polka.extras) != {candidate.proposal.valid_round}:\n"
        "            continue\n",
        "",
        _LINES,
    ),
    Mutant(
        "prevotes that rely on different rounds are one quorum",
        "coordinator/chain/consensus/vote_set.py",
        "            equal = _relying_on_one_round(equal, needed)",
        "            equal = equal[:needed]",
        _LINES,
    ),
    Mutant(
        "a locked block of somebody else is not written down",
        "coordinator/chain/node/height.py",
        "    if proposal is not None and proposal.proposer == "
        "step.state.validator.index:\n",
        "    if proposal is not None:\n",
        _QUORUMS,
    ),
    Mutant(
        "a rewritten journal lacks the height that is being decided",
        "coordinator/runtime/storage/vote_journal.py",
        "if entry[0] > height]",
        "if entry[0] > height + 1]",
        ("tests/unit/coordinator/runtime/storage/test_sqlite_store.py",),
    ),
    Mutant(
        "a quorum that somebody shows is not checked",
        "coordinator/chain/node/message_handlers.py",
        "    check_polka(validator, polka)\n    _hold_polka",
        "    _hold_polka",
        _QUORUMS,
    ),
    Mutant(
        "a quorum of precommits that somebody shows is not checked",
        "coordinator/chain/node/message_handlers.py",
        "    check_certificate(\n        certificate, validator.chain_id, "
        "validators, validator.fault_model\n    )\n    for vote in",
        "    for vote in",
        _QUORUMS,
    ),
    Mutant(
        "our own vote in a quorum that we did not cast is overlooked",
        "coordinator/chain/node/message_handlers.py",
        "        # It must not count: the state that it belongs to is not ours.\n"
        '        own_signature.report_own_signature(step, "vote")\n        return',
        "        return",
        _QUORUMS,
    ),
)

_LIVENESS = (
    Mutant(
        "a certificate may have another number of signatures than of voters",
        "protocol/chain/blocks.py",
        "        if not count == len(self.signatures) == len(self.extras):\n",
        "        if not count:\n",
        ("tests/unit/protocol/chain/test_blocks.py",),
        quick=True,
    ),
    Mutant(
        "who offers a block is asked no sooner for what it names",
        "coordinator/handlers/deferred_proposals.py",
        "    request_scheduler.hasten(step, _keys(parked), who)\n",
        "",
        ("tests/sim/test_withheld_vectors.py",),
    ),
    Mutant(
        "quorums of prevotes are not passed on",
        "coordinator/chain/gossip/certificate_gossip.py",
        "    step.gossip(gossip_messages.wrap_polka(polka))\n",
        "",
        _QUORUMS,
        quick=True,
    ),
    Mutant(
        "a quorum that decides nothing is kept until its round is over",
        "coordinator/chain/gossip/certificate_gossip.py",
        "    over = state.round > number or now_s >= share_at_s\n",
        "    over = state.round > number\n",
        _QUORUMS,
    ),
    Mutant(
        "a block that others prevote is waited for",
        "coordinator/chain/node/message_handlers.py",
        "    if missing and count == step.state.validator.skip:\n",
        "    if missing and count > step.state.validator.count:\n",
        _REPAIR,
    ),
    Mutant(
        "a block that is lacking is given by one at a time",
        "coordinator/chain/gossip/vote_repair.py",
        "            if (count - 1) % -(-others // skip) != rank // skip:\n",
        "            if (count - 1) % others != rank:\n",
        _REPAIR,
    ),
    Mutant(
        "who was behind waits another status for what it missed",
        "coordinator/chain/gossip/vote_repair.py",
        "before.get(item, int(behind))",
        "before.get(item, 0)",
        _REPAIR,
    ),
    Mutant(
        "a quorum that comes late is forgotten",
        "coordinator/chain/consensus/tendermint.py",
        "    _line_36,\n    _line_42,\n",
        "    _line_36,\n",
        (*_LINES, *_QUORUMS),
    ),
    Mutant(
        "a quorum's members do not take us along",
        "coordinator/chain/consensus/vote_set.py",
        "        for number, voters in cast + whole:",
        "        for number, voters in cast[:0]:",
        _LINES,
    ),
    Mutant(
        "the block of a quorum is dropped if another one came first",
        "coordinator/chain/node/message_handlers.py",
        "    if known and not carried:\n",
        "    if known:\n",
        _QUORUMS,
    ),
    Mutant(
        "a status without the quorum's block claims to hold it",
        "coordinator/chain/consensus/vote_set.py",
        "            if polka is None or candidate.proposal.block_id == "
        "polka.block_id:\n",
        "            if candidate is not None:\n",
        _QUORUMS,
    ),
    Mutant(
        "who votes otherwise at a decided height is not told",
        "coordinator/chain/node/message_handlers.py",
        "        certificate_gossip.answer_late_vote(step, vote)\n",
        "        pass\n",
        _QUORUMS,
    ),
    Mutant(
        "repair sends votes of the peer's round and later only",
        "coordinator/chain/gossip/vote_repair.py",
        "    for number, kind in sorted(vote_set.votes):\n",
        "    for number, kind in sorted(vote_set.votes):\n"
        "        if number < status.round:\n"
        "            continue\n",
        _ANSWERS,
        quick=True,
    ),
    Mutant(
        "an older status is heard",
        "coordinator/chain/gossip/status_exchange.py",
        "    if latest is not None and status.counter < latest.counter:\n",
        "    if latest is not None and status.counter < 0:\n",
        _STATUSES,
        quick=True,
    ),
    Mutant(
        "a status from before our start says how far others are",
        "coordinator/chain/gossip/status_exchange.py",
        "    if not step.state.caught_up and settings.nonce in status.answers:\n",
        "    if not step.state.caught_up:\n",
        _STATUSES,
    ),
    Mutant(
        "who counts from lower stays mute",
        "coordinator/chain/gossip/status_exchange.py",
        "        step.state = evolve(step.state, status_counter=counter)\n        if",
        "        if",
        _STATUSES,
    ),
    Mutant(
        "one validator alone begins a height",
        "coordinator/chain/node/message_handlers.py",
        "    if decides or len(state.vote_set.voices()) >= "
        "step.state.validator.skip:\n",
        "    if decides or state.vote_set.voices():\n",
        _QUORUMS,
        quick=True,
    ),
    Mutant(
        "an empty block begins a height before its time",
        "coordinator/chain/node/message_handlers.py",
        "        decides = bool(prepared.block.transactions)\n",
        "        decides = prepared is not None\n",
        _QUORUMS,
    ),
    Mutant(
        "changes of the validator set are lost with a snapshot",
        "coordinator/sync/state_sync.py",
        "AdoptSnapshot(restoring.manifest, restoring.ends, state)",
        "AdoptSnapshot(restoring.manifest, (), state)",
        ("tests/unit/coordinator/sync/test_state_sync.py",),
    ),
    Mutant(
        "the store drops the changes that a snapshot brings",
        "coordinator/runtime/storage/sqlite_chain.py",
        "        for end in ends:\n",
        "        for end in ends[:0]:\n",
        ("tests/contract/storage/test_pruned_chain_store.py",),
    ),
)

_STATE = (
    Mutant(
        "a board forfeits a base again with its next key",
        "coordinator/chain/tasks/version_cut.py",
        "    signed = board_records.history(draft, body.task, sender)\n"
        "    if any(entry.base == body.version for entry in signed):\n"
        '        raise InvalidUpdate("the board signed for this base", '
        "Reason.ALREADY_KNOWN)\n    _check_base(draft, spec, body, progress.head)\n"
        "    if body.version != progress.head:",
        "    signed = board_records.history(draft, body.task, DeviceId(envelope.sender))\n"
        "    if any(entry.base == body.version for entry in signed):\n"
        '        raise InvalidUpdate("the board signed for this base", '
        "Reason.ALREADY_KNOWN)\n    _check_base(draft, spec, body, progress.head)\n"
        "    if body.version != progress.head:",
        ("tests/unit/coordinator/chain/tasks/test_lost_updates.py",),
    ),
    Mutant(
        "prevotes of one block for two reasons are no evidence",
        "protocol/chain/evidence.py",
        "    if first.block_id == second.block_id and not relied:\n",
        "    if first.block_id == second.block_id:\n",
        ("tests/unit/protocol/chain/test_evidence.py",),
    ),
)

_COMMANDS = (
    Mutant(
        "a command that only waits leaves the inbox",
        "coordinator/commit/block_commit.py",
        "        if step.state.ledger.mempool.get(identity) is None:\n",
        "        if identity:\n",
        ("tests/sim/test_command_crash_points.py",),
    ),
    Mutant(
        "votes of a peer are checked at any pace",
        "coordinator/handlers/peer_messages.py",
        "    if line.signatures < 1.0:\n",
        "    if line.signatures < -1e9:\n",
        ("tests/unit/coordinator/handlers/test_peer_messages.py",),
    ),
    Mutant(
        "a request that somebody repeats is answered again",
        "coordinator/handlers/peer_requests.py",
        "    if peer.requests.has(said.counter):\n",
        "    if False:\n",
        ("tests/unit/coordinator/handlers/test_peer_requests.py",),
    ),
    Mutant(
        "a request is answered whoever signed it",
        "coordinator/handlers/peer_requests.py",
        "    said.check(step.settings.gate.chain_id)\n    peer = ",
        "    peer = ",
        ("tests/unit/coordinator/handlers/test_peer_requests.py",),
    ),
)

_CREDITS = (
    Mutant(
        "noise counts as contribution",
        "protocol/learning/reward_policy.py",
        "        return max(0, self.contribution - noise)",
        "        return max(0, self.contribution)",
        _REWARDS,
    ),
    Mutant(
        "credits leave without the worth that they are for",
        "coordinator/chain/tasks/contribution_rewards.py",
        "    after = evolve(known, paid=known.worth(sigma_micro))",
        "    after = evolve(known, paid=known.paid)",
        _REWARDS,
    ),
    Mutant(
        "late scores pay for what a rollback undid",
        "coordinator/chain/tasks/contribution_rewards.py",
        "    if left_out is None:\n        return",
        "    if left_out is None:\n        left_out = frozenset()",
        ("tests/unit/coordinator/chain/tasks/test_late_rewards.py",),
    ),
    Mutant(
        "scores count only while their version may be a base",
        "coordinator/chain/tasks/scores.py",
        "        if version >= oldest - LATE_VERSIONS and _is_awaited(",
        "        if version >= oldest and _is_awaited(",
        ("tests/unit/coordinator/chain/tasks/test_late_rewards.py",),
    ),
    Mutant(
        "uses are paid again with every reading",
        "coordinator/chain/tasks/contribution_rewards.py",
        "    amount = (body.reading - before) * policy.use_price",
        "    amount = body.reading * policy.use_price",
        _REWARDS,
    ),
)

CHAIN = (*_SAFETY, *_LIVENESS, *_STATE, *_COMMANDS, *_CREDITS)
