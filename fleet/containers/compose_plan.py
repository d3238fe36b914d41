"""Arguments for `docker compose` that start, show and remove a fleet in containers.

Pure: a plan becomes words of a command line and variables of its environment. The file
that they speak of is `compose.yaml` beside this module.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from starling.board_profiles.board_detection import AUTO
from starling.board_profiles.board_profile import Profile
from starling.protocol.errors import ConfigError

DEVICES_MAX = 500
COORDINATOR_COUNTS = (1, 4)
MEMORY_MB_LEAST = 6
"""Docker's own least."""
MEMORY_MB_MAX = 1 << 20
BETWEEN_S_MAX = 3600.0
DEFAULT_PROJECT = "starling"
DEFAULT_IMAGE = "starling:dev"
BROKER = "broker"
DEVICE = "device"
LINKS = "links"
"""Service between devices and the broker."""
NETWORK = "boards"
"""Of the devices."""
BOARDS_PER_DEVICE_MAX = 50
AGENT_MB = 64
"""Memory of an agent beside its trainer's, in MiB: twice what one at rest has."""
_DEVICE_HOME = "/var/lib/starling/home"
ORDERS_FOLDER = "/srv/fleet/orders"
"""Of coordinators that do wrong as they are ordered, in the volume that they share."""
_SERVERS = ("setup", "server", LINKS, BROKER)
_PROFILE = "four"
_PROJECT_FORM = r"[a-z0-9][a-z0-9_-]{0,62}"
_IMAGE_FORM = r"[a-zA-Z0-9][a-zA-Z0-9._/:@-]{0,254}"
_STOP_S = 10


@dataclass(frozen=True)
class ContainerPlan:
    """Everything that can be asked of a fleet in containers.

    Attributes:
      devices: How many, in [1, `DEVICES_MAX`].
      coordinators: 1, or 4 of which three decide.
      project: Compose's name for the fleet; containers and volumes begin with it.
      image: Name of the image, which is on this machine.
      memory_mb: Limit of each board's memory in MiB; a device has it once for each.
      between_s: Least time between two updates of a device, in s.
      boards: How many boards run in each device, in [1, `BOARDS_PER_DEVICE_MAX`].
      cpus: Processors that each board may use.
      profile: The boards' profile, or auto.
    """

    devices: int = 5
    coordinators: int = 1
    project: str = DEFAULT_PROJECT
    image: str = DEFAULT_IMAGE
    memory_mb: int = 256
    between_s: float = 5.0
    boards: int = 1
    cpus: float = 0.5
    profile: str = AUTO

    def __post_init__(self) -> None:
        """Refuses what docker would not take, or take for something else.

        Raises:
          ConfigError: Naming the flag and its bounds.
        """
        if not 1 <= self.devices <= DEVICES_MAX:
            raise ConfigError(f"takes 1 to {DEVICES_MAX}", key="--devices")
        if self.coordinators not in COORDINATOR_COUNTS:
            detail = "takes 1, or 4 of which three decide"
            raise ConfigError(detail, key="--coordinators")
        if not MEMORY_MB_LEAST <= self.memory_mb <= MEMORY_MB_MAX:
            detail = f"takes {MEMORY_MB_LEAST} to {MEMORY_MB_MAX} MiB"
            raise ConfigError(detail, key="--memory")
        if not 0.0 <= self.between_s <= BETWEEN_S_MAX:
            detail = f"takes 0 to {BETWEEN_S_MAX:.0f} s"
            raise ConfigError(detail, key="--between")
        if re.fullmatch(_IMAGE_FORM, self.image) is None:
            raise ConfigError("is no name of an image", key="--image")
        if not 1 <= self.boards <= BOARDS_PER_DEVICE_MAX:
            detail = f"takes 1 to {BOARDS_PER_DEVICE_MAX}"
            raise ConfigError(detail, key="--boards-per-device")
        check_project(self.project)

    @property
    def environment(self) -> dict[str, str]:
        """Variables that the compose file reads."""
        return {
            "COORDINATORS": str(self.coordinators),
            "STARLING_IMAGE": self.image,
            "DEVICE_MEMORY": f"{self.memory_mb * self.boards}m",
            "DEVICE_CPUS": f"{self.cpus * self.boards:g}",
            "BETWEEN_S": f"{self.between_s:g}",
            "BOARDS_PER_DEVICE": str(self.boards),
            "BOARD_PROFILE": self.profile,
        }

    @property
    def boards_in_all(self) -> int:
        """Number of boards that the fleet is to have."""
        return self.devices * self.boards


def check_project(name: str) -> None:
    """Refuses what compose takes for no project's name.

    Raises:
      ConfigError: Saying what it takes.
    """
    if re.fullmatch(_PROJECT_FORM, name) is None:
        detail = "takes small letters, digits, '-' and '_', at most 63 of them"
        raise ConfigError(detail, key="--project")


def up_words(plan: ContainerPlan, file: str) -> tuple[str, ...]:
    """Words after `docker` that start a fleet, or change how many devices it has."""
    return (
        *_compose(plan.project, file, four=plan.coordinators > 1),
        "up",
        "--detach",
        "--no-build",
        "--scale",
        f"{DEVICE}={plan.devices}",
    )


def down_words(project: str, file: str, *, volumes: bool) -> tuple[str, ...]:
    """Words after `docker` that remove a fleet's containers and network.

    Args:
      project: Its name.
      file: The compose file.
      volumes: Whether keys, chain and data go too.
    """
    # The profile names all coordinators: those of a fleet with one are not there.
    words = (*_compose(project, file, four=True), "down", "--remove-orphans")
    ended = (*words, "--timeout", str(_STOP_S))
    return (*ended, "--volumes") if volumes else ended


def logs_words(
    project: str, file: str, services: Sequence[str], *, follow: bool, tail: int
) -> tuple[str, ...]:
    """Words after `docker` that show what containers wrote.

    Args:
      project: Name of the fleet.
      file: The compose file.
      services: Of the compose file; all if there are none.
      follow: Whether to go on.
      tail: How many lines of each container come first.

    Raises:
      ConfigError: If there is no such service.
    """
    known = (*_SERVERS, *map(coordinator_service, range(1, 5)), DEVICE)
    for service in services:
        if service not in known:
            detail = f"there is no service {service!r}, they are: {', '.join(known)}"
            raise ConfigError(detail, key="SERVICE")
    words = (*_compose(project, file, four=True), "logs", "--no-color")
    ended = (*words, "--tail", str(tail), *(["--follow"] if follow else []))
    return (*ended, *services)


def limits_of(profile: Profile) -> tuple[int, float]:
    """Memory in MiB and processors that a board of some profile gets.

    The trainer has what the profile lets it have, and the agent its own beside it.
    """
    return profile.trainer_memory_mb + AGENT_MB, float(profile.threads)


def within(plan: ContainerPlan, processors: int) -> ContainerPlan:
    """The same plan on a machine with so many processors; docker refuses more."""
    # A container has the share of all its boards.
    return replace(plan, cpus=min(plan.cpus, processors / plan.boards))


def device_home(board: int) -> str:
    """Home of one of a device's boards, by its number from 1, in its own volume."""
    return _DEVICE_HOME if board == 1 else f"{_DEVICE_HOME}-{board}"


def coordinator_service(number: int) -> str:
    """Service of a coordinator, by its number from 1."""
    return f"coordinator-{number}"


def coordinator_home(number: int) -> str:
    """Folder of a coordinator in its container, by its number from 1."""
    return f"/srv/fleet/coordinator-{number}"


def _compose(project: str, file: str, *, four: bool) -> tuple[str, ...]:
    profile = ("--profile", _PROFILE) if four else ()
    return ("compose", "--project-name", project, "--file", file, *profile)


def advice_on(words: str) -> str:
    """Advice on what docker wrote on standard error; empty if there is none.

    Args:
      words: As it wrote them.
    """
    return next(
        (advice for sign, advice in _ADVICE.items() if sign in words.lower()), ""
    )


_ADVICE: Mapping[str, str] = {
    "cannot connect to the docker daemon": "start it (systemctl start docker), or set "
    "DOCKER_HOST to where it listens",
    "permission denied": "this user may not use docker: add it to the group docker, or "
    "set DOCKER_HOST to a daemon of its own",
    "'compose' is not a docker command": "install docker's compose plugin, version 2",
    "unknown flag: --project-name": "install docker's compose plugin, version 2",
    "unknown shorthand flag": "install docker's compose plugin, version 2",
    "pool overlaps": "docker has no address range left: docker network prune",
    "no space left on device": "the disk is full: docker system df",
}
