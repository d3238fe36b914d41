"""The addresses that follow from what an operator asks of a broker."""

import pytest

from starling.broker.broker_settings import (
    BrokerSettings,
    ascii_host,
    board_host,
    certified_names,
    is_loopback,
    reachable_host,
)
from starling.protocol.errors import ConfigError
from starling.protocol.wire.enrolment_token import EnrolmentToken, token_from_line


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


@pytest.mark.parametrize(
    ("given", "held"),
    [
        ("broker.example.org", "broker.example.org"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("left_pi", "left_pi"),
        ("192.0.2.7", "192.0.2.7"),
        ("[2001:DB8::1]", "2001:db8::1"),
    ],
)
def test_host_is_held_so_that_a_token_with_it_is_read_back(
    given: str, held: str
) -> None:
    assert ascii_host(given) == held
    authority, identity, secret = bytes(32), bytes(8), bytes(20)
    token = EnrolmentToken(held, 8884, "garden", authority, identity, secret)
    assert token_from_line(token.to_line()) == token


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("fe80::1%eth0", "zone"),
        ("", "neither a name nor an address"),
        ("a b", "neither a name nor an address"),
        ("a/b", "neither a name nor an address"),
        ("x" * 64 + ".example", "no host"),
        ("a..b", "no host"),
    ],
)
def test_host_that_no_token_could_hold_is_refused(given: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ascii_host(given)
