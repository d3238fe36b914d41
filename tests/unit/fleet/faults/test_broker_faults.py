"""Faults of brokers in a timeline: read, or refused with what is wrong."""

import pytest

from starling.fleet.faults.board_faults import board_faults
from starling.fleet.faults.broker_faults import BrokerFault, broker_faults
from starling.fleet.faults.fault_timeline import timeline
from starling.fleet.plan import FleetPlan
from starling.protocol.errors import ConfigError


def test_broker_faults_are_in_the_order_of_their_times() -> None:
    text = "restart broker at 9s; kill broker 2 at 1.5 s"

    assert broker_faults(text, 2) == (
        BrokerFault(1.5, kills=True, broker=2),
        BrokerFault(9.0, kills=False),
    )


def test_each_reader_of_a_timeline_takes_its_own_entries() -> None:
    text = "kill coordinator 1 at 1s; kill broker at 2s; board 1 pauses from 3s"

    assert len(timeline(text, 1)) == 1
    assert len(broker_faults(text, 1)) == 1
    assert len(board_faults(text, 1)) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kill broker 2 at 1s", "there is no broker 2, they are 1 to 1"),
        ("kill broker 0 at 1s", "there is no broker 0"),
        ("kill broker", r"expected 'kill broker \[N\] at Ts' or 'restart broker"),
        ("broker leaves from 1s", "expected 'kill broker"),
    ],
)
def test_broker_faults_refuses_an_entry_with_what_is_wrong(
    text: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        broker_faults(text, 1)


def test_fault_of_a_broker_says_what_happens() -> None:
    killed, started = broker_faults("kill broker at 1s; restart broker at 2s", 1)

    assert (killed.text, killed.end_text) == ("broker 1 was killed", "")
    assert started.text == "broker 1 is started again"


def test_plan_lasts_until_the_last_fault_of_a_broker() -> None:
    assert FleetPlan(fault="kill broker at 12s").faults_last_s == 12.0
    with pytest.raises(ConfigError, match="no broker 2"):
        FleetPlan(fault="kill broker 2 at 12s")
