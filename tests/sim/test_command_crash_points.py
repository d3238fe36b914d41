"""A command that already waits here: a power cut anywhere must not lose it.

Another coordinator told us of a transaction; then our operator drops the same one. No
block can be decided, so that it waits in memory alone, and the file is all that lasts.
"""

from starling.protocol.crypto.keys import SigningKey
from starling.protocol.wire.envelope import ENVELOPE, MessageKind, sign
from starling.protocol.wire.message_bodies import REGISTER, Register
from tests.sim.simulator.committee_world import CHAIN, CommitteeWorld
from tests.sim.simulator.fleet_world import OPERATOR, Plan

NAME = "again.tx"
COMMAND = sign(
    OPERATOR,
    CHAIN,
    MessageKind.REGISTER,
    1000,
    REGISTER.pack(Register(SigningKey(b"n" * 32).public)),
)
IDENTITY = COMMAND.identity(CHAIN)
LOOKS_S = 3.0
"""In which the file is read and answered, with a restart in between."""
LIVENESS_S = 120.0


class World(CommitteeWorld):
    """Of four, one tells another one of a transaction that nobody can decide."""

    def __init__(self) -> None:
        super().__init__(1, Plan(boards=0))
        assert self.reach(0, LIVENESS_S)
        self.told_by, self.here = self.coordinators[0], self.coordinators[1]
        self.part((0, 1), (2,), (3,))
        self.told_by.drop(NAME, ENVELOPE.pack(COMMAND))
        assert self.time.run(self.time.now_s + LIVENESS_S, self._waits)
        self.here.drop(NAME, ENVELOPE.pack(COMMAND))
        self.first = self.here.instants

    def _waits(self) -> bool:
        state = self.here.state
        return state is not None and state.ledger.mempool.get(IDENTITY) is not None

    def lasts(self) -> bool:
        """Whether our disk has it, in the inbox or in a block."""
        stored = self.here.store.locate(IDENTITY) is not None
        return stored or NAME in self.here.inbox.files

    def look(self) -> int:
        """Lets it be looked at; how many effects were carried out meanwhile."""
        lost = self.time.run(self.time.now_s + LOOKS_S, lambda: not self.lasts())
        assert not lost, self.time.tail
        return self.here.instants - self.first

    def forget(self) -> None:
        """All lose power, and the one who told us its disk's inbox, too."""
        self.told_by.inbox.files.clear()
        for coordinator in self.coordinators:
            coordinator.end()
        self.part()
        for coordinator in self.coordinators:
            coordinator.boot()

    def decided(self) -> bool:
        """Whether everybody has it in a block."""
        return all(
            each.store.locate(IDENTITY) is not None for each in self.coordinators
        )


def test_command_that_waits_already_survives_a_power_cut_at_any_effect() -> None:
    count = World().look()
    assert count > 3
    for number in range(count):
        world = World()
        world.here.cuts = frozenset({world.first + number})
        world.look()
        world.forget()
        assert world.time.run(world.time.now_s + LIVENESS_S, world.decided), number


def test_command_that_stands_in_a_block_leaves_the_inbox() -> None:
    world = World()
    world.look()
    world.part()

    def gone() -> bool:
        return world.decided() and not world.here.inbox.files

    assert world.time.run(world.time.now_s + LIVENESS_S, gone)
    world.here.drop(NAME, ENVELOPE.pack(COMMAND))
    assert world.time.run(world.time.now_s + LIVENESS_S, gone)
