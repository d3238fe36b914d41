"""Plays scenarios of `twins` and says whether agreement held, and who is to blame."""

import random
from dataclasses import dataclass

from starling.coordinator.chain.consensus.round_state import RoundStep
from starling.coordinator.chain.safety.accountability import culprits
from starling.protocol.chain.blocks import Certificate, VoteType
from tests.sim.twins.byzantine_keys import Adversary
from tests.sim.twins.scenarios import Crew, Message, Node, QuorumRules, Stage, of_type

ROUNDS = 5
_PHASES: tuple[tuple[VoteType | None, RoundStep | None], ...] = (
    (None, RoundStep.PROPOSE),
    (VoteType.PREVOTE, RoundStep.PREVOTE),
    (VoteType.PRECOMMIT, None),
)


@dataclass(frozen=True)
class Outcome:
    """What a scenario came to.

    Attributes:
      decisions: One certificate per block that a correct validator decided.
      named: Whom the certificates convict, if there are two decisions.
      doubles: Whom two contradicting votes convict, in any correct node's log.
    """

    decisions: tuple[Certificate, ...]
    named: frozenset[int]
    doubles: frozenset[int]

    @property
    def forked(self) -> bool:
        return len(self.decisions) > 1


def play(crew: Crew, law: QuorumRules, seed: int) -> Outcome:
    """One scenario; everything follows from the seed."""
    stage = Stage(crew, law, random.Random(seed), ROUNDS)
    adversary = Adversary(stage)
    for number in range(ROUNDS):
        if not any(node.correct for node in stage.acting):
            break
        _play_round(stage, adversary, number)
    return _judge(stage)


def _play_round(stage: Stage, adversary: Adversary, number: int) -> None:
    draw = stage.draw
    for node in stage.acting:
        behind = node.state.round < number or number == 0
        if behind and draw.random() < 0.95:
            stage.enter(node, number)
    for kind, waiting in _PHASES:
        _spread(stage, kind)
        if stage.crew.liars:
            adversary.told += _lie(stage, adversary, number, kind)
        for node in stage.acting:
            stage.act(node)
        for node in stage.acting:
            if waiting is not None and draw.random() < 0.9:
                stage.fire(node, waiting)
        if draw.random() < 0.1 and stage.acting:
            stage.restart(draw.choice(stage.acting))
    _arrive_late(stage)


def _spread(stage: Stage, kind: VoteType | None) -> None:
    """Messages of one type go where the network of this phase lets them."""
    reach = _network(stage)
    new = stage.said[stage.spread :]
    ripe = [entry for entry in new if of_type(entry[1], kind)]
    for node in stage.acting:
        heard: list[Message] = []
        for source, message in ripe:
            if source == node.number:
                continue
            if reach[source][node.number]:
                heard.append(message)
            else:
                stage.late.append((node, message))
        stage.receive(node, heard)
    rest = [entry for entry in new if not of_type(entry[1], kind)]
    stage.said[stage.spread :] = ripe + rest
    stage.spread += len(ripe)


def _network(stage: Stage) -> list[list[bool]]:
    draw, count = stage.draw, len(stage.nodes)
    roll = draw.random()
    if roll < 0.3:
        return [[True] * count] * count
    if roll < 0.6:
        side = [draw.random() < 0.5 for _ in range(count)]
        return [[here == there for there in side] for here in side]
    if roll < 0.8:
        # One hears all and nobody else anything: decisions and locks stay hidden.
        lucky = draw.randrange(count)
        return [[node == lucky for node in range(count)]] * count
    return [[draw.random() < 0.6 for _ in range(count)] for _ in range(count)]


def _lie(
    stage: Stage, adversary: Adversary, number: int, kind: VoteType | None
) -> list[Message]:
    """The liars speak past the network; what they said is known to the adversary."""
    said: list[Message] = []
    if kind is None and stage.leaders[number] not in stage.crew.liars:
        return said
    offers = adversary.proposals(number) if kind is None else []
    silent = stage.draw.random() < 0.2
    for node in stage.acting:
        lies: list[Message] = []
        if kind is not None:
            lies += adversary.votes(number, kind, node)
            lies += adversary.quorum(number)
        elif not silent and stage.draw.random() < 0.9:
            lies.append(stage.draw.choice(offers))
        stage.receive(node, lies)
        said += lies
        if stage.draw.random() < 0.3:
            # Who heard it may pass it on.
            stage.late += [(stage.draw.choice(stage.nodes), lie) for lie in lies]
    return said


def _arrive_late(stage: Stage) -> None:
    """Some of what was withheld arrives after all, for some."""
    if stage.draw.random() < 0.5:
        return
    late, stage.late = stage.late, []
    for node, message in late:
        if stage.draw.random() < 0.4:
            stage.receive(node, [message])
        else:
            stage.late.append((node, message))
    for node in stage.acting:
        stage.act(node)


def _judge(stage: Stage) -> Outcome:
    correct = [node for node in stage.nodes if node.correct]
    decided = {node.decided.block_id: node.decided for node in correct if node.decided}
    decisions = tuple(decided[block_id] for block_id in sorted(decided))
    named: frozenset[int] = frozenset()
    if len(decisions) > 1:
        named = culprits(decisions[0], decisions[1], _polkas(correct))
    doubles = frozenset(
        first.voter for node in correct for first, _ in node.state.vote_set.conflicts
    )
    return Outcome(decisions, named, doubles)


def _polkas(nodes: list[Node]) -> list[Certificate]:
    """The quorums of prevotes that nodes hold, or locked on."""
    found = []
    for node in nodes:
        vote_set = node.state.vote_set
        found += [entry.proof for entry in node.journal if entry.proof is not None]
        found += vote_set.polkas.values()
        for number in {number for number, _ in vote_set.votes}:
            votes = vote_set.cast(number, VoteType.PREVOTE).values()
            for block_id in {vote.block_id for vote in votes} - {None}:
                assert block_id is not None
                needed, kind = node.validator.quorum, VoteType.PREVOTE
                polka = vote_set.certificate(number, kind, block_id, needed)
                found += [polka] if polka is not None else []
    return found
