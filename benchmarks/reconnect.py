"""How a fleet of 1,000 boards comes back after its broker was away.

`python -m benchmarks.reconnect [--boards N] [--away S ...]` connects as many links as
boards have, each with a certificate of its own, to a real broker over TLS; kills it,
starts it again after a while, and notes when each link is back. The links are those of
the product, in threads of one process, with `broker.retry_first_s` a twentieth of the
number of boards, as docs/boards.md says, and in turn with the default. JSON goes to
benchmarks/results/reconnect.json.
"""

import argparse
import queue
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.harness.result_file import keep
from starling.agent.config import AgentBrokerSettings
from starling.broker.backoff import BackoffPolicy
from starling.broker.broker_settings import BrokerSettings
from starling.broker.link_events import LinkConnected, LinkEvent, LinkSettings
from starling.broker.runtime.broker_home import BrokerHome
from starling.broker.runtime.mosquitto_process import free_port
from starling.broker.runtime.mqtt_link import MqttLink

BOARDS_A_SECOND = 20
"""A board waits for as long as these take to number the fleet."""
BACK_GOAL_S = 60.0
PACE_GOAL_PER_S = 50
DEADLINE_S = 600.0
FLEET = "reconnect"


class LinkedBoards:
    """Links of many boards, and when each was last connected."""

    def __init__(self, links: Sequence[LinkSettings]) -> None:
        """Connects nothing yet."""
        self._arrived: queue.SimpleQueue[tuple[int, float]] = queue.SimpleQueue()
        draw = random.SystemRandom().random
        self._links = [
            MqttLink(settings, self._noting(number), draw)
            for number, settings in enumerate(links)
        ]

    def start(self) -> None:
        """Begins to connect, all at once."""
        for link in self._links:
            link.start()

    def stop(self) -> None:
        """Ends all links."""
        for link in self._links:
            link.stop(0.0)

    def wait_for_all(self) -> list[float]:
        """Monotonic time at which each of the links was connected, in order.

        Raises:
          TimeoutError: If one does not come.
        """
        found: dict[int, float] = {}
        until_s = time.monotonic() + DEADLINE_S
        while len(found) < len(self._links):
            try:
                left_s = max(0.0, until_s - time.monotonic())
                number, at_s = self._arrived.get(timeout=left_s)
            except queue.Empty:
                missing = len(self._links) - len(found)
                raise TimeoutError(f"{missing} links do not come back") from None
            found[number] = at_s
        return sorted(found.values())

    def _noting(self, number: int) -> Callable[[LinkEvent], None]:
        def note(event: LinkEvent) -> None:
            if isinstance(event, LinkConnected):
                self._arrived.put((number, time.monotonic()))

        return note


def link_settings(
    broker: BrokerHome, boards: int, policy: BackoffPolicy
) -> list[LinkSettings]:
    """A link for each board, with its own certificate."""
    port, made = broker.require_settings().port, []
    for number in range(boards):
        name = f"board-{number}"
        files = broker.certificates.issue_files(name, broker.path)
        made.append(LinkSettings("127.0.0.1", port, name, files, backoff=policy))
    return made


def measure(
    broker: BrokerHome, boards: int, policy: BackoffPolicy, away_s: float
) -> dict[str, float]:
    """Has the broker go away and come back; seconds count from its return."""
    fleet = LinkedBoards(link_settings(broker, boards, policy))
    try:
        with broker.process():
            fleet.start()
            fleet.wait_for_all()
            # A connection that was stable begins with the shortest wait again.
            time.sleep(policy.stable_s)
        time.sleep(away_s)
        with broker.process():
            start_s = time.monotonic()
            back_s = [at_s - start_s for at_s in fleet.wait_for_all()]
    finally:
        fleet.stop()
    each_second = Counter(map(int, back_s))
    return {
        "away_s": away_s,
        "first_s": policy.first_s,
        "half_back_s": back_s[len(back_s) // 2],
        "all_back_s": back_s[-1],
        "most_per_s": max(each_second.values()),
    }


def main() -> None:
    """Measures, prints the table and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--boards", type=int, default=1000)
    parser.add_argument("--away", type=float, nargs="+", default=[5.0, 60.0])
    options = parser.parse_args()
    defaults = AgentBrokerSettings()
    policies = [
        BackoffPolicy(first_s, defaults.retry_most_s)
        for first_s in (options.boards / BOARDS_A_SECOND, defaults.retry_first_s)
    ]
    rows = []
    print(
        f"{options.boards} boards; goal: all back within {BACK_GOAL_S:.0f} s, at most "
        f"{PACE_GOAL_PER_S} in a second"
    )
    print("retry_first_s   away, s   half back, s   all back, s   most in a second")
    with tempfile.TemporaryDirectory() as folder:
        broker = BrokerHome(Path(folder) / "broker")
        broker.prepare(BrokerSettings(FLEET, "127.0.0.1", free_port()))
        for away_s in options.away:
            for policy in policies:
                row = measure(broker, options.boards, policy, away_s)
                rows.append(row)
                print(
                    f"{row['first_s']:13g} {away_s:9g} {row['half_back_s']:14.1f} "
                    f"{row['all_back_s']:13.1f} {row['most_per_s']:18.0f}",
                    flush=True,
                )
    keep("reconnect", rows)


if __name__ == "__main__":
    main()
