"""Carries a fault timeline out on a fleet in containers, and sees what follows."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from starling.fleet.containers.compose_plan import LINKS
from starling.fleet.containers.container_chaos import (
    AnyContainerFault,
    ChaosPlan,
    ContainerAction,
    ContainerVerb,
)
from starling.fleet.containers.container_list import (
    ContainerRow,
    coordinators_of,
    named,
)
from starling.fleet.containers.fleet_progress import FleetProgress
from starling.fleet.faults.fault_timeline import FaultTransition, take_due
from starling.fleet.runtime.containers.container_fleet import (
    ContainerFleet,
    Say,
    clock,
)
from starling.fleet.runtime.containers.docker_engine import DockerRefusal
from starling.protocol.errors import OperationError

_LOOK_EVERY_S = 0.1
_SAY_EVERY_S = 10.0
_TRIES_MORE = 5
_RETRY_S = 0.3


@dataclass(frozen=True)
class ChaosOutcome:
    """Result of a timeline.

    Attributes:
      before: The fleet when it began.
      after: The fleet when it was over.
      verified: Whether the chain of each coordinator that is up verifies, by service.
      events: What was done, with its time in s.
      interrupted: Whether it was ended before its time.
    """

    before: FleetProgress
    after: FleetProgress
    verified: dict[str, bool]
    events: tuple[tuple[float, str], ...]
    interrupted: bool

    @property
    def sound(self) -> bool:
        """True if chains were checked and all of them verify."""
        return bool(self.verified) and all(self.verified.values())

    def document(self) -> dict[str, Any]:
        """The same for `--json`."""
        return {
            "before": self.before.document(),
            "after": self.after.document(),
            "verified": self.verified,
            "events": [{"time_s": at_s, "text": text} for at_s, text in self.events],
            "interrupted": self.interrupted,
            "sound": self.sound,
        }


@dataclass
class ChaosRun:
    """One timeline on its way.

    Attributes:
      fleet: Whom it befalls.
      plan: What happens.
      say: Told of each event and, now and then, of the progress.
      events: What happened so far, with its time in s.
    """

    fleet: ContainerFleet
    plan: ChaosPlan
    say: Say
    events: list[tuple[float, str]] = field(default_factory=list)
    _rows: tuple[ContainerRow, ...] = ()

    def carry_out(self, watch_s: float) -> ChaosOutcome:
        """Does everything at its time, then looks on for a while.

        Ctrl-C ends it early, and with it whatever was to end later.

        Args:
          watch_s: How long it looks on after the last entry.

        Raises:
          OperationError: If there is no fleet, or docker refuses.
        """
        self._rows = self.fleet.require_rows()
        first = self.plan.first_actions()
        if first:
            self.say("coordinators start again, to do wrong as they are ordered")
            self._act(first)
        before = self.fleet.progress(self._rows)
        coming = deque(self.plan.moments())
        interrupted = self._follow(coming, coming[-1].at_s + watch_s)
        rows = self.fleet.rows()
        after, verified = self.fleet.progress(rows), self.fleet.verified(rows)
        return ChaosOutcome(before, after, verified, tuple(self.events), interrupted)

    def _follow(
        self, coming: deque[FaultTransition[AnyContainerFault]], until_s: float
    ) -> bool:
        """Does what is due until a time; True if it was interrupted."""
        begun_s = said_s = time.monotonic()
        over = interrupted = False
        try:
            while (passed_s := time.monotonic() - begun_s) < until_s or coming:
                for moment in take_due(coming, passed_s):
                    self._do(self.plan, moment, passed_s)
                if time.monotonic() - said_s >= _SAY_EVERY_S:
                    said_s = time.monotonic()
                    now = self.fleet.progress(self.fleet.rows())
                    self.say(f"{clock(passed_s)}  {now.text}")
                time.sleep(_LOOK_EVERY_S)
            over = True
        except KeyboardInterrupt:
            interrupted = True
        finally:
            # Also where docker refuses: what began is ended as far as it can be.
            if not over:
                self._end_early(coming, time.monotonic() - begun_s)
        return interrupted

    def _do(
        self,
        plan: ChaosPlan,
        moment: FaultTransition[AnyContainerFault],
        passed_s: float,
    ) -> None:
        self._act(plan.actions(moment))
        self.events.append((passed_s, moment.text))
        self.say(f"{clock(passed_s)}  {moment.text}")

    def _end_early(
        self, coming: Sequence[FaultTransition[AnyContainerFault]], passed_s: float
    ) -> None:
        early = self.plan.ended_early(coming, passed_s)
        for moment in early.moments():
            if not moment.begins and moment.at_s >= passed_s:
                self._do(early, moment, passed_s)

    def _act(self, actions: Sequence[ContainerAction]) -> None:
        for action in actions:
            container = named(self._rows, action.service, action.number).name
            if action.deed is ContainerVerb.ORDER and action.service != LINKS:
                container = self._one_with_orders()
            for last in (*[False] * _TRIES_MORE, True):
                if self._is_done(action, container, last=last):
                    break
                time.sleep(_RETRY_S)

    def _is_done(self, action: ContainerAction, container: str, *, last: bool) -> bool:
        """Asks docker once; False if it is to be asked again."""
        words = action.words(container, self.fleet.project)
        try:
            self.fleet.docker.ask(*words, given=action.input)
        except DockerRefusal as error:
            if action.is_passing(error.words) and not last:
                return False
            if not action.is_needless(error.words):
                raise
        return True

    def _one_with_orders(self) -> str:
        """Name of a running container that has the volume of the orders."""
        for row in coordinators_of(self.fleet.rows()):
            if row.state == "running":
                return row.name
        raise OperationError("no coordinator is up that could be given orders")
