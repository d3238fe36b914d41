"""Looks at what changes beside a running agent: its disk, its data, its certificate."""

import logging
from pathlib import Path

from starling.agent.runtime import machine_info
from starling.agent.runtime.privacy_ledger import dataset_claim
from starling.agent.runtime.status_file import certificate_days
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.agent.step import events as e
from starling.agent.step.state import AgentState

LOG = logging.getLogger("agent")


class HomeMonitor:
    """Looks every so often.

    Attributes:
      due_s: Time of the next look.
      certificate_days: Until the board's certificate ends; None if that is not known.
    """

    def __init__(self, home: AgentHome, data: Path, every_s: float) -> None:
        """Looks at the data set at once, and at the rest when asked first.

        Args:
          home: The agent's home.
          data: Folder of the data set.
          every_s: Between two looks.
        """
        self.due_s = 0.0
        self.certificate_days: float | None = None
        self._home = home
        self._data = data
        self._every_s = every_s
        self._seen = machine_info.fingerprint(data)

    def look(self, state: AgentState, now_s: float) -> list[e.Event]:
        """Events of the core for what changed.

        Args:
          state: Of the core.
          now_s: Monotonic time.

        Raises:
          ConfigError: If the folder holds a data set now that another ledger counts.
          StorageError: If the home is gone.
        """
        self.due_s = now_s + self._every_s
        self.certificate_days = certificate_days(self._home.tls.certificate)
        found: list[e.Event] = []
        free_bytes = machine_info.space_left(self._home.path)
        if free_bytes != state.free_bytes:
            found.append(e.SpaceMeasured(free_bytes))
        if machine_info.fingerprint(self._data) != self._seen:
            LOG.info("the data set's files changed")
            # Before anything is trained on them: the new files may be a data set that
            # another ledger counts.
            dataset_claim.take(self._data, state.ledger.owner, self._home.path)
            self._seen = machine_info.fingerprint(self._data)
            found.append(e.DataChanged())
        return found
