"""Containers of a fleet, as `docker ps` lists them.

Pure: lines of JSON become rows, and rows become a name for what is wrong with them.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from starling.fleet.containers.compose_plan import DEVICE
from starling.protocol.errors import OperationError

PROJECT_LABEL = "com.docker.compose.project"
_SERVICE_LABEL = "com.docker.compose.service"
_NUMBER_LABEL = "com.docker.compose.container-number"
_DONE = "Exited (0)"
_COORDINATOR = "coordinator-"


@dataclass(frozen=True)
class ContainerRow:
    """One container.

    Attributes:
      name: Docker's name for it.
      service: Of the compose file.
      number: Which of its service, from 1.
      state: created, running, paused, restarting, exited or dead.
      status: The same in docker's words, with times, health and exit status.
    """

    name: str
    service: str
    number: int
    state: str
    status: str

    @property
    def coordinator(self) -> int:
        """Number of the coordinator that it is, from 1."""
        return int(self.service.removeprefix(_COORDINATOR))

    @property
    def trouble(self) -> str:
        """Fault in docker's words; empty if nothing is wrong."""
        # The one service that is to end.
        if self.service == "setup" and self.status.startswith(_DONE):
            return ""
        if self.state != "running":
            return self.status or self.state
        return "unhealthy" if "(unhealthy)" in self.status else ""


def list_words(project: str) -> tuple[str, ...]:
    """Words after `docker` that list a fleet's containers, the stopped ones too."""
    label = f"label={PROJECT_LABEL}={project}"
    return ("ps", "--all", "--no-trunc", "--filter", label, "--format", "{{json .}}")


def read_rows(text: str) -> tuple[ContainerRow, ...]:
    """Containers that docker listed, servers first, then devices by number.

    Args:
      text: Output of the command of `list_words`: a line of JSON for each.

    Raises:
      OperationError: If it is of another form.
    """
    try:
        found = [_row(json.loads(line)) for line in text.splitlines() if line.strip()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OperationError(
            f"docker lists containers in an unknown form: {error}"
        ) from error
    return tuple(sorted(found, key=_place))


def named(rows: Iterable[ContainerRow], service: str, number: int = 1) -> ContainerRow:
    """The container of a service.

    Raises:
      OperationError: If there is none.
    """
    for row in rows:
        if (row.service, row.number) == (service, number):
            return row
    raise OperationError(
        f"there is no container {number} of {service}; starling fleet up starts it"
    )


def devices_of(rows: Sequence[ContainerRow]) -> tuple[ContainerRow, ...]:
    """Containers of devices, by number."""
    return tuple(row for row in rows if row.service == DEVICE)


def coordinators_of(rows: Sequence[ContainerRow]) -> tuple[ContainerRow, ...]:
    """Containers of coordinators, by number."""
    return tuple(row for row in rows if row.service.startswith(_COORDINATOR))


def _row(document: dict[str, Any]) -> ContainerRow:
    pairs = (label.partition("=") for label in document["Labels"].split(","))
    labels = {name: value for name, _, value in pairs}
    return ContainerRow(
        document["Names"],
        labels[_SERVICE_LABEL],
        int(labels[_NUMBER_LABEL]),
        document["State"],
        document["Status"],
    )


def _place(row: ContainerRow) -> tuple[bool, str, int]:
    return row.service == DEVICE, row.service, row.number
