"""Leases: how many boards are in flight at once, and which ones.

A board that is ready checks in and waits; whenever a place is free the board with the
lowest drawn place gets it. So that no herd trains from one version and adds the same
step many times over, leases for one base version are limited, whatever places are free;
a lease that takes twice as long as usual does not count there, so that slow boards keep
nobody waiting. A board holds one lease and waits once. A lease that is not
used ends on the grantor's clock, and its place goes to the next board; an update that
comes later with it is still welcome, so that time decides liveness only.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from starling.protocol.dataclass_replace import evolve
from starling.protocol.ids import DeviceId, H, Version
from starling.protocol.persistent_map import PersistentMap
from starling.protocol.wire.envelope import Envelope
from starling.protocol.wire.message_bodies import CheckIn

_PLACE_BYTES = 7
_SLOW = 2.0
_AT_FIRST_S = 5.0
_OF_THE_NEWEST = 0.1


@dataclass(frozen=True)
class Grant:
    """A lease in force.

    Attributes:
      version: Base version that it is for.
      envelope: The signed lease, to be sent again as it is.
      since_s: When it was given, on our monotonic clock.
      ends_at_s: When its place is free again.
      slow: Whether it takes so long that it no longer counts in its version's herd.
    """

    version: Version
    envelope: Envelope
    since_s: float
    ends_at_s: float
    slow: bool = False


@dataclass(frozen=True)
class LeaseTable:
    """Boards in flight for one task, and boards that wait.

    Attributes:
      places: Leases that may be in force at once.
      granted: By device.
      waiting: Device and its check-in, by drawn place.
      waiting_place: The key in `waiting`, by device.
      wake_at_s: No lease ends or becomes slow before; infinity if there is none. It may
        be early, when the lease that it belonged to was given back.
      dealt: By base version, leases that were used or are in force and not slow.
      usual_s: From a lease to its update, averaged over the last ones.
    """

    places: int
    granted: PersistentMap[Grant] = field(default_factory=PersistentMap)
    waiting: PersistentMap[tuple[DeviceId, CheckIn]] = field(
        default_factory=PersistentMap
    )
    waiting_place: PersistentMap[bytes] = field(default_factory=PersistentMap)
    wake_at_s: float = math.inf
    dealt: Mapping[Version, int] = field(default_factory=dict)
    usual_s: float = _AT_FIRST_S

    @property
    def free(self) -> int:
        """Places that nobody holds."""
        return max(0, self.places - len(self.granted))

    def wait(
        self,
        device: DeviceId,
        check_in: CheckIn,
        select: Callable[[float], float],
        draw: bytes,
    ) -> "LeaseTable":
        """Puts a board among the waiting; a later check-in replaces an earlier one.

        Args:
          device: The board.
          check_in: What it said.
          select: From a uniform draw in [0, 1) to a place in [0, 1).
          draw: At least 7 fresh random bytes.
        """
        # Of a board one check-in waits, with the draw of its latest.
        rest = self.stop_waiting(device)
        bits = 8 * _PLACE_BYTES
        place = select(int.from_bytes(draw[:_PLACE_BYTES]) / (1 << bits))
        assert 0.0 <= place < 1.0
        # The device at its end makes equal places different, and their order fixed.
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

    def without_waiting(self) -> "LeaseTable":
        """Forgets all check-ins, whether a place is free or not."""
        return evolve(self, waiting=PersistentMap(), waiting_place=PersistentMap())

    def next_waiting(self) -> tuple[DeviceId, CheckIn] | None:
        """The board whose turn it is, if a place is free."""
        if self.free == 0:
            return None
        found = self.waiting.first()
        return None if found is None else found[1]

    def grant(self, device: DeviceId, grant: Grant) -> "LeaseTable":
        """Gives a lease; it takes the place of the one that the board may hold."""
        # Released first: a lease of another version must not stay counted.
        rest = self.release(device).stop_waiting(device)
        slow_at_s = grant.since_s + _SLOW * rest.usual_s
        return evolve(
            rest,
            granted=rest.granted.put(device, grant),
            dealt=_counted(rest.dealt, grant.version, 1),
            wake_at_s=min(rest.wake_at_s, grant.ends_at_s, slow_at_s),
        )

    def use(self, device: DeviceId, now_s: float) -> "LeaseTable":
        """Frees the place of a board whose update came; its lease stays counted."""
        grant = self.granted.get(device)
        if grant is None:
            return self
        longer_s = now_s - grant.since_s - self.usual_s
        return evolve(
            self,
            granted=self.granted.without(device),
            # A moving average over ten or so, as boards and links change.
            usual_s=self.usual_s + _OF_THE_NEWEST * longer_s,
        )

    def release(self, device: DeviceId) -> "LeaseTable":
        """Frees a board's place, if it holds one, as if it had never been given."""
        grant = self.granted.get(device)
        if grant is None:
            return self
        return evolve(
            self,
            granted=self.granted.without(device),
            # A slow one was taken out of the count before.
            dealt=_counted(self.dealt, grant.version, 0 if grant.slow else -1),
        )

    def expire(self, now_s: float) -> "LeaseTable":
        """Frees the places of leases that have ended, and tells which are slow."""
        if now_s < self.wake_at_s:
            return self
        rest, wake_at_s = self, math.inf
        for device, grant in self.granted.items():
            slow_at_s = grant.since_s + _SLOW * self.usual_s
            if grant.ends_at_s <= now_s:
                # Nothing is learned of how long an update takes from one that never
                # came.
                rest = rest.release(DeviceId(device))
                continue
            if not grant.slow and slow_at_s <= now_s:
                rest = evolve(
                    rest,
                    granted=rest.granted.put(device, evolve(grant, slow=True)),
                    dealt=_counted(rest.dealt, grant.version, -1),
                )
            elif not grant.slow:
                wake_at_s = min(wake_at_s, slow_at_s)
            wake_at_s = min(wake_at_s, grant.ends_at_s)
        return evolve(rest, wake_at_s=wake_at_s)

    def forget(self, oldest: Version) -> "LeaseTable":
        """Stops counting leases of versions before `oldest`."""
        dealt = {k: count for k, count in self.dealt.items() if k >= oldest}
        return evolve(self, dealt=dealt)


def _counted(
    dealt: Mapping[Version, int], version: Version, change: int
) -> Mapping[Version, int]:
    # A version that was forgotten has nothing left to take away from.
    return {**dealt, version: max(0, dealt.get(version, 0) + change)}


def draw_for(seed: bytes, device: DeviceId, number: int) -> bytes:
    """The draw of a check-in: nobody without the seed can foresee it."""
    return H(b"starling/selection/1", seed, device, number.to_bytes(8))
