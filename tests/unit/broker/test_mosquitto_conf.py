"""The configuration file, word for word, for each version of Mosquitto."""

from pathlib import Path

import pytest

from starling.broker.mosquitto_conf import (
    EnrolmentListenerConfig,
    ListenerConfig,
    ServerFiles,
    enrolment_text,
    listener_text,
)
from starling.protocol.errors import ConfigError

FILES = ServerFiles(Path("/h/ca"), Path("/h/cert"), Path("/h/key"), Path("/h/acl"))
EXPECTED = """\
listener 8883 0.0.0.0
allow_anonymous false
cafile /h/ca
certfile /h/cert
keyfile /h/key
tls_version tlsv1.3
require_certificate true
use_identity_as_username true
use_username_as_clientid true
acl_file /h/acl
max_connections 20000
max_packet_size 131072
max_inflight_messages 1000
max_queued_messages 20000
max_queued_bytes 67108864
persistent_client_expiration 1d
max_keepalive 600
set_tcp_nodelay true
sys_interval 10
log_type notice
allow_zero_length_clientid false
persistence false
log_dest stdout
log_type error
log_type warning
log_timestamp_format %Y-%m-%dT%H:%M:%S
"""


@pytest.mark.parametrize(
    ("version", "more"),
    [((2, 0, 11), ""), ((2, 0, 22), ""), ((2, 1, 2), "accept_protocol_versions 5\n")],
    ids=["bookworm", "trixie", "2.1"],
)
def test_listener_text_of_each_version_is_this(
    version: tuple[int, int, int], more: str
) -> None:
    text = listener_text(ListenerConfig("0.0.0.0", 8883, FILES), version)  # noqa: S104 - text

    assert text == EXPECTED + more


def test_listener_text_names_the_user_when_started_by_root() -> None:
    text = listener_text(ListenerConfig("::1", 1, FILES, run_as="root"), (2, 0, 11))

    assert text.endswith("\nuser root\n")


@pytest.mark.parametrize("bind", ["127.0.0.1", "::1"])
def test_listener_without_tls_is_allowed_on_loopback(bind: str) -> None:
    assert "allow_anonymous true" in listener_text(
        ListenerConfig(bind, 1, None), (2, 0, 11)
    )


@pytest.mark.parametrize("bind", ["0.0.0.0", "192.0.2.1", "::"])  # noqa: S104 - refused
def test_listener_without_tls_is_refused_elsewhere(bind: str) -> None:
    with pytest.raises(ConfigError, match="bind: a listener on"):
        listener_text(ListenerConfig(bind, 1, None), (2, 0, 11))


def test_listener_of_all_addresses_names_none_so_that_both_families_are_heard() -> None:
    listener = ListenerConfig("::", 8883, FILES)

    assert listener_text(listener, (2, 0, 11)).startswith("listener 8883\n")


ENROLMENT = """\
listener 8884 127.0.0.1
allow_anonymous true
password_file /h/users
cafile /h/ca
certfile /h/cert
keyfile /h/key
tls_version tlsv1.3
require_certificate false
acl_file /h/acl
max_connections 256
max_packet_size 131072
max_inflight_messages 16
max_queued_messages 256
max_queued_bytes 16777216
memory_limit 268435456
retain_available false
max_keepalive 120
persistent_client_expiration 1h
sys_interval 0
allow_zero_length_clientid false
persistence false
log_dest stdout
log_type error
log_type warning
log_timestamp_format %Y-%m-%dT%H:%M:%S
"""


@pytest.mark.parametrize(
    ("version", "more"),
    [((2, 0, 11), ""), ((2, 1, 2), "accept_protocol_versions 5\n")],
    ids=["2.0", "2.1"],
)
def test_enrolment_text_of_each_version_is_this(
    version: tuple[int, int, int], more: str
) -> None:
    listener = EnrolmentListenerConfig(8884, FILES, Path("/h/users"))

    assert enrolment_text(listener, version) == ENROLMENT + more
