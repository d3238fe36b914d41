"""Topics: who may speak where, in at most seven levels of fixed depth per kind.

All topics start with `starling/1/<fleet>/`. A board writes only below its own
`d/<device>/`; the broker enforces it by the authenticated user name, which is the
device's id.
"""

import re
from dataclasses import dataclass
from functools import cached_property

from starling.protocol.errors import DecodeError

ROOT = "starling/1"
_TO = "to"
FLEET_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


def check_fleet_name(fleet: str) -> str:
    """Returns the name if it can stand in a topic.

    Raises:
      DecodeError: If it is not 1 to 32 of a-z, 0-9 and '-', starting with none of '-'.
    """
    if not FLEET_PATTERN.fullmatch(fleet):
        raise DecodeError(f"fleet name {fleet!r}: use 1 to 32 of a-z, 0-9 and '-'")
    return fleet


@dataclass(frozen=True)
class Topics:
    """All topics of one fleet.

    Attributes:
      fleet: The fleet's name.
    """

    fleet: str

    def __post_init__(self) -> None:
        """Refuses a name that `check_fleet_name` refuses."""
        check_fleet_name(self.fleet)

    @cached_property
    def _prefix(self) -> str:
        return self._at("")

    def _at(self, *levels: str) -> str:
        return "/".join((ROOT, self.fleet, *levels))

    def device_state(self, device: str) -> str:
        """Board to all, retained, with a last will."""
        return self._at("d", device, "state")

    def up(self, device: str) -> str:
        """Board to coordinators: chunks of an upload."""
        return self._at("d", device, "up")

    def say(self, device: str) -> str:
        """Board to coordinators: check-ins and chunk requests."""
        return self._at("d", device, "say")

    def down(self, device: str) -> str:
        """Coordinators to one board: leases, receipts, refusals, proofs."""
        return self._at("d", device, "down")

    def model(self, device: str) -> str:
        """Coordinators to one board: chunks of a model or a bundle."""
        return self._at("d", device, "model")

    def manifest(self, task: int) -> str:
        """Coordinators to all, retained: the newest version and its proof."""
        return self._at("t", str(task), "manifest")

    def coordinator_state(self, coordinator: str) -> str:
        """Coordinator to all, retained, with a last will."""
        return self._at("c", coordinator, "state")

    def gossip(self, coordinator: str) -> str:
        """Coordinator to coordinators."""
        return self._at("g", coordinator, "say")

    def private(self, coordinator: str, peer: str) -> str:
        """Coordinator to one other: what it asks of it, and what it answers."""
        return self._at("g", coordinator, _TO, peer)

    def enrolment_hello(self, client: str) -> str:
        """Newcomer to registrar: its keys. At the enrolment listener alone."""
        return self._at("e", client, "hello")

    def enrolment_challenge(self, client: str) -> str:
        """Registrar to newcomer: its answer to a hello."""
        return self._at("e", client, "challenge")

    def enrolment_claim(self, client: str) -> str:
        """Newcomer to registrar: its proof."""
        return self._at("e", client, "claim")

    def enrolment_outcome(self, client: str) -> str:
        """Registrar to newcomer: what became of its claim."""
        return self._at("e", client, "outcome")

    def renewal(self, client: str) -> str:
        """Client to registrar: it asks for another certificate."""
        return self._at("r", client, "renewal")

    def renewed(self, client: str) -> str:
        """Registrar to one client: what became of that."""
        return self._at("r", client, "renewed")

    def board_filters(self, device: str) -> tuple[str, ...]:
        """Topic filters that a board subscribes to."""
        return (
            self.down(device),
            self.model(device),
            self._at("t", "+", "manifest"),
            self._at("c", "+", "state"),
        )

    def coordinator_filters(self, coordinator: str) -> tuple[str, ...]:
        """Topic filters that a coordinator subscribes to at its own broker."""
        return (
            self._at("d", "+", "up"),
            self._at("d", "+", "say"),
            self._at("d", "+", "state"),
            *self.peer_filters(coordinator),
        )

    def peer_filters(self, coordinator: str) -> tuple[str, ...]:
        """Topic filters that a coordinator subscribes to at its peers' brokers."""
        return self.gossip("+"), self.private("+", coordinator)

    def parse(self, topic: str) -> tuple[str, str, str]:
        """Takes a topic apart.

        Returns:
          The branch (`d`, `t`, `c`, `g`, `e` or `r`), whose it is, and the leaf, which
          is `to/<peer>` for what is private.

        Raises:
          DecodeError: If it is no topic of this fleet.
        """
        prefix = self._prefix
        levels = topic[len(prefix) :].split("/")
        # The only topics of four levels: all others are told apart by three.
        private = len(levels) == 4 and (levels[0], levels[2]) == ("g", _TO)
        if private:
            levels = [*levels[:2], "/".join(levels[2:])]
        if not topic.startswith(prefix) or len(levels) != 3:
            raise DecodeError(f"not a topic of {self.fleet}: {topic[:80]!r}")
        return levels[0], levels[1], levels[2]
