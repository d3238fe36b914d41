"""All checks of a board, in the order in which faults cause one another."""

import time
from collections.abc import Callable, Iterator

from starling.agent.config import AgentConfig
from starling.agent.runtime import machine_info
from starling.agent.runtime.assembly import broker_link_settings
from starling.agent.runtime.checks import (
    home_checks,
    machine_checks,
    network_checks,
    status_checks,
    subprocess_checks,
)
from starling.agent.runtime.checks.check_rows import fail
from starling.agent.runtime.checks.machine_checks import MachinePaths
from starling.agent.runtime.process_state import Liveness, look
from starling.agent.runtime.status_reader import read_status
from starling.agent.runtime.storage.agent_home import AgentHome
from starling.broker.health_checks import HealthCheck
from starling.durable.locks import PROC
from starling.protocol.errors import ConfigError, FederationError
from starling.protocol.wire.topics import Topics


def check_agent(home: AgentHome, *, with_data: bool = True) -> Iterator[HealthCheck]:
    """Checks the machine, the home, the way to the broker, and the data.

    Each row comes as soon as it is found, so that whatever ends the checks leaves those
    before it.

    Args:
      home: The agent's home.
      with_data: False leaves out all that depends on the data set.

    Raises:
      ConfigError: If there is no such home, or its configuration is wrong.
    """
    config = home.config()
    places = MachinePaths()
    profile = machine_info.profile(config.training.board)
    trainer_mb = config.training.memory_mb or profile.trainer_memory_mb
    spool_mb = config.spool.mb or profile.spool_mb
    now_s = time.time()
    parts: list[tuple[str, Callable[[], Iterator[HealthCheck]]]] = [
        # First: with a clock that was never set no certificate is valid, and the
        # network's rows would name a wrong cause.
        ("clock", machine_checks.clock_checks),
        ("disk", lambda: iter((machine_checks.disk_check(home.path),))),
        ("memory", lambda: _memory(home, trainer_mb)),
        ("heat", lambda: iter((machine_checks.heat_check(places),))),
        ("power", lambda: iter((machine_checks.voltage_check(places),))),
        ("home", lambda: home_checks.home_checks(home)),
        ("process", lambda: iter((home_checks.process_check(home),))),
        ("spool", lambda: iter((home_checks.spool_check(home, spool_mb),))),
        ("tls", lambda: home_checks.certificate_checks(home, now_s)),
        ("net", lambda: _network(home, config, now_s)),
        ("agent", lambda: _status(home, config, with_fault=with_data)),
        ("runtime", subprocess_checks.engine_checks),
    ]
    if with_data:
        parts.append(("data", lambda: _data(home, config, trainer_mb)))
    return (row for name, rows in parts for row in _all(name, rows))


def _all(name: str, rows: Callable[[], Iterator[HealthCheck]]) -> Iterator[HealthCheck]:
    """The rows, and what kept the rest of them from being found."""
    try:
        yield from rows()
    except ConfigError as error:
        # Its text names file and remedy.
        yield fail(f"{name}.looked-at", str(error), "mend that first")
    except (FederationError, OSError) as error:
        fix = "run this as the home's owner, or see who owns that file"
        yield fail(f"{name}.looked-at", str(error), fix)


def _memory(home: AgentHome, trainer_mb: int) -> Iterator[HealthCheck]:
    found = look(home)
    runs = found.liveness is not Liveness.GONE
    groups = PROC / str(found.pid) / "cgroup" if runs else None
    return machine_checks.memory_checks(MachinePaths(agent=groups), trainer_mb)


def _network(
    home: AgentHome, config: AgentConfig, now_s: float
) -> Iterator[HealthCheck]:
    admission = home.admission()
    # `home.enrolled` says it already.
    if admission is None:
        return iter(())
    place = network_checks.BrokerPlace(
        broker_link_settings(home, config, admission), Topics(admission.genesis.fleet)
    )
    runs = look(home).liveness is not Liveness.GONE
    return network_checks.network_checks(place, now_s, runs=runs)


def _status(
    home: AgentHome, config: AgentConfig, *, with_fault: bool
) -> Iterator[HealthCheck]:
    document = {"task": config.training.task, **read_status(home)}
    if not with_fault:
        # What kept a trainer from its work may name a record.
        document["fault"] = ""
    return status_checks.status_checks(document, config.pace.between_s)


def _data(
    home: AgentHome, config: AgentConfig, memory_mb: int
) -> Iterator[HealthCheck]:
    folder = home.data(config).absolute()
    return subprocess_checks.data_checks(folder, config.data.label, memory_mb)
