"""The addresses that follow from what an operator asks of a broker."""

import pytest

from starling.broker.broker_settings import (
    BrokerSettings,
    board_host,
    certified_names,
    is_loopback,
    reachable_host,
)


@pytest.mark.parametrize(
    ("settings", "boards", "here", "names"),
    [
        (BrokerSettings("f"), None, "127.0.0.1", ()),
        (BrokerSettings("f", "::"), None, "127.0.0.1", ()),
        (BrokerSettings("f", hosts=("b.org", "10.0.0.1")), "b.org", "127.0.0.1", None),
        (BrokerSettings("f", "10.0.0.1"), "10.0.0.1", "10.0.0.1", ("10.0.0.1",)),
        (BrokerSettings("f", "127.0.0.1"), "127.0.0.1", "127.0.0.1", ()),
        (BrokerSettings("f", "::1"), "::1", "::1", ("::1",)),
        (
            BrokerSettings("f", "10.0.0.1", hosts=("b.org",)),
            "b.org",
            "10.0.0.1",
            ("10.0.0.1", "b.org"),
        ),
    ],
    ids=["any", "any-6", "hosts", "one", "local", "local-6", "one-and-host"],
)
def test_addresses_of_a_broker(
    settings: BrokerSettings,
    boards: str | None,
    here: str,
    names: tuple[str, ...] | None,
) -> None:
    assert board_host(settings) == boards
    assert reachable_host(settings) == here
    found = certified_names(settings)
    assert found[:2] == ("127.0.0.1", "localhost")
    assert found[2:] == (settings.hosts if names is None else names)


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("10.0.0.1", False),
        ("broker.example.org", False),
        ("", False),
    ],
)
def test_loopback_is_told_from_what_others_reach(host: str, local: bool) -> None:
    assert is_loopback(host) is local
