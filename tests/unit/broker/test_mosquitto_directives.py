"""What in a configuration stands against the fleet's listener, line by line."""

import pytest

from starling.broker.mosquitto_directives import Directive, directives, obstacles

PORT = 8883


def found(before: str, after: str = "") -> list[str]:
    """Obstacles, each shortened to where it is and its reason's first words."""
    lines = directives("a.conf", before), directives("z.conf", after)
    return [text[:40] for text in obstacles(*lines, PORT)]


def test_lines_that_say_something_are_read_with_their_places() -> None:
    text = "# comment\n\n  listener 1883  127.0.0.1 \nper_listener_settings\ttrue\nuser"

    assert directives("f", text) == (
        Directive("f", 3, "listener", "1883  127.0.0.1"),
        Directive("f", 4, "per_listener_settings", "true"),
        Directive("f", 5, "user", ""),
    )


@pytest.mark.parametrize(
    ("line", "port"),
    [
        ("listener 1883 ::1", 1883),
        ("port 8883", 8883),
        ("listener 0 /run/mosquitto.sock", 0),
        ("listener", None),
        ("listener x", None),
        ("max_connections 8883", None),
    ],
)
def test_port_of_a_line_that_opens_one(line: str, port: int | None) -> None:
    assert directives("f", line)[0].port == port


@pytest.mark.parametrize(
    "text",
    [
        "",
        "persistence true\nlog_dest syslog\nmax_packet_size 2000000",
        "allow_anonymous false",
        "max_packet_size 0",
        "per_listener_settings true\nlistener 1883\nacl_file /a\nallow_anonymous true",
        "per_listener_settings true\npassword_file /p",
        "connection up\naddress example.org\ntopic # in",
    ],
    ids=["nothing", "general", "nobody", "any size", "own access", "default", "bridge"],
)
def test_configuration_that_keeps_apart_has_no_obstacle(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("listener 8883", "a.conf:1: has port 8883 already"),
        ("per_listener_settings true\nport 8883", "a.conf:2: has port 8883 already"),
        ("listener 1883", "a.conf:1: listener 1883: without per_lis"),
        ("#\nacl_file /a", "a.conf:2: acl_file /a: without per_liste"),
        ("password_file /p", "a.conf:1: password_file /p: without per_"),
        ("plugin /p.so", "a.conf:1: plugin /p.so: without per_list"),
        ("allow_anonymous true", "a.conf:1: allow_anonymous true: without "),
        ("max_packet_size 1000", "a.conf:1: max_packet_size 1000: the flee"),
        ("retain_available false", "a.conf:1: retain_available false: the fl"),
    ],
)
def test_line_in_the_way_is_named(text: str, said: str) -> None:
    assert len(found(text)) == 1
    assert found(text)[0].startswith(said)


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ("require_certificate false", ["z.conf:1: require_certificate would be r"]),
        ("persistence true", []),
        ("listener 1884\nrequire_certificate false", []),
        ("connection up\ncafile /a", []),
    ],
)
def test_line_after_ours_that_would_be_of_our_listener_is_named(
    after: str, said: list[str]
) -> None:
    assert found("per_listener_settings true", after) == said


def test_access_rule_after_ours_is_ours_where_each_listener_has_its_own() -> None:
    (said,) = found("per_listener_settings true", "acl_file /a")

    assert said.startswith("z.conf:1: acl_file would be read as of")
    (said,) = found("", "acl_file /a")
    assert said.startswith("z.conf:1: acl_file /a: without per_lis")


def test_last_word_about_settings_by_listener_counts() -> None:
    said = "per_listener_settings true\nlistener 1883\nper_listener_settings false"

    assert len(found(said)) == 1
