"""Leases: how many boards are in flight at once, and which ones.

A board that is ready checks in and waits; whenever a place is free the board with the
lowest drawn place gets it. A board holds one lease and waits once. A lease that is not
used ends on the grantor's clock, and its place goes to the next board; an update that
comes later with it is still welcome, so that time decides liveness only.
"""

import math
from dataclasses import dataclass, field

from coordinator.selection import Selection
from protocol.envelope import Envelope
from protocol.evolve import evolve
from protocol.ids import DeviceId, H, Version
from protocol.messages import CheckIn
from protocol.persistent import PersistentMap

_PLACE_BYTES = 7


@dataclass(frozen=True)
class Grant:
    """A lease in force.

    Attributes:
      version: Base version that it is for.
      envelope: The signed lease, to be sent again as it is.
      ends_at_s: When its place is free again, on our monotonic clock.
    """

    version: Version
    envelope: Envelope
    ends_at_s: float


@dataclass(frozen=True)
class LeaseTable:
    """Who is in flight for one task, and who waits.

    Attributes:
      places: Leases that may be in force at once.
      granted: By device.
      waiting: Device and its check-in, by drawn place.
      waiting_place: The key in `waiting`, by device.
      ends_at_s: No lease ends before; infinity if there is none. It may be early, when
        the lease that it belonged to was given back.
    """

    places: int
    granted: PersistentMap[Grant] = field(default_factory=PersistentMap)
    waiting: PersistentMap[tuple[DeviceId, CheckIn]] = field(
        default_factory=PersistentMap
    )
    waiting_place: PersistentMap[bytes] = field(default_factory=PersistentMap)
    ends_at_s: float = math.inf

    @property
    def free(self) -> int:
        """Places that nobody holds."""
        return max(0, self.places - len(self.granted))

    def wait(
        self, device: DeviceId, check_in: CheckIn, select: Selection, draw: bytes
    ) -> "LeaseTable":
        """Puts a board among the waiting; a later check-in replaces an earlier one.

        Args:
          device: The board.
          check_in: What it said.
          select: The policy.
          draw: At least 7 fresh random bytes.
        """
        rest = self.stop_waiting(device)
        bits = 8 * _PLACE_BYTES
        place = select(check_in, int.from_bytes(draw[:_PLACE_BYTES]) / (1 << bits))
        assert 0.0 <= place < 1.0
        key = int(place * (1 << bits)).to_bytes(_PLACE_BYTES) + device
        return evolve(
            rest,
            waiting=rest.waiting.put(key, (device, check_in)),
            waiting_place=rest.waiting_place.put(device, key),
        )

    def asked(self, device: DeviceId) -> CheckIn | None:
        """The check-in with which a board waits."""
        key = self.waiting_place.get(device)
        found = None if key is None else self.waiting.get(key)
        return None if found is None else found[1]

    def stop_waiting(self, device: DeviceId) -> "LeaseTable":
        """Forgets a board's check-in."""
        key = self.waiting_place.get(device)
        if key is None:
            return self
        return evolve(
            self,
            waiting=self.waiting.without(key),
            waiting_place=self.waiting_place.without(device),
        )

    def next_waiting(self) -> tuple[DeviceId, CheckIn] | None:
        """The board whose turn it is, if a place is free."""
        if self.free == 0:
            return None
        found = self.waiting.first()
        return None if found is None else found[1]

    def grant(self, device: DeviceId, grant: Grant) -> "LeaseTable":
        """Gives a lease; it takes the place of the one that the board may hold."""
        rest = self.release(device).stop_waiting(device)
        return evolve(
            rest,
            granted=rest.granted.put(device, grant),
            ends_at_s=min(rest.ends_at_s, grant.ends_at_s),
        )

    def release(self, device: DeviceId) -> "LeaseTable":
        """Frees a board's place, if it holds one."""
        granted = self.granted.without(device)
        return self if granted is self.granted else evolve(self, granted=granted)

    def expire(self, now_s: float) -> "LeaseTable":
        """Frees the places of leases that have ended."""
        if now_s < self.ends_at_s:
            return self
        granted = self.granted
        ends_at_s = math.inf
        for device, grant in self.granted.items():
            if grant.ends_at_s <= now_s:
                granted = granted.without(device)
            else:
                ends_at_s = min(ends_at_s, grant.ends_at_s)
        return evolve(self, granted=granted, ends_at_s=ends_at_s)


def draw_for(seed: bytes, device: DeviceId, number: int) -> bytes:
    """The draw of a check-in: nobody without the seed can foresee it."""
    return H(b"starling/selection/1", seed, device, number.to_bytes(8))
