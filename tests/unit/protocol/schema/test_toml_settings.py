"""Configuration: what is wrong is named by file, key and bound."""

import tomllib
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starling.protocol.errors import ConfigError
from starling.protocol.schema.toml_settings import (
    ignored_keys,
    load_settings,
    sample,
    setting,
    table,
)

FILE = "agent.toml"


@dataclass(frozen=True)
class Broker:
    host: str = setting("localhost", "Name or address.", host=True)
    port: int = setting(8883, "TCP port.", least=1, most=65535)


@dataclass(frozen=True)
class Secret:
    file: str = setting(..., "Path of the key.")


@dataclass(frozen=True)
class Settings:
    name: str = setting("board", "For people.")
    level: str = setting("info", "Log level.", choices=("debug", "info", "error"))
    rate: float = setting(0.5, "Share, below 1.", least=0.0, most=0.99)
    bytes_max: int = setting(1 << 20, "Spool limit, bytes.", least=1 << 20)
    debug: bool = setting(False, "Prints more.")
    sensors: tuple[str, ...] = setting(("a", "b"), "Names of sensors.")
    broker: Broker = table(Broker, "Where the broker is.")


@dataclass(frozen=True)
class Required:
    fleet: str = setting(..., "The fleet's name.")
    secret: Secret = table(Secret, "The board's key.")


def test_empty_document_gives_the_defaults() -> None:
    assert load_settings(Settings, "", FILE) == Settings()


def test_document_sets_every_kind_of_key() -> None:
    text = """
        name = "pi"
        level = "debug"
        rate = 0
        bytes_max = 2000000
        debug = true
        sensors = ["c"]
        [broker]
        port = 1883
    """

    assert load_settings(Settings, text, FILE) == Settings(
        "pi", "debug", 0.0, 2_000_000, True, ("c",), Broker("localhost", 1883)
    )


@pytest.mark.parametrize(
    ("text", "key", "detail"),
    [
        ("name = 5", "name", "expected a text"),
        ("name = true", "name", "expected a text"),
        ("level = 'loud'", "level", "expected debug | info | error"),
        ("level = 1", "level", "expected a text"),
        ("rate = 'x'", "rate", "expected a number"),
        ("rate = 1.0", "rate", "1.0 is not at least 0.0, at most 0.99"),
        ("rate = -0.1", "rate", "-0.1 is not at least 0.0, at most 0.99"),
        ("rate = nan", "rate", "expected a number"),
        ("rate = inf", "rate", "expected a number"),
        (f"rate = {10**400}", "rate", "expected a number"),
        ("bytes_max = 1048575", "bytes_max", "1048575 is not at least 1048576"),
        ("bytes_max = 2e6", "bytes_max", "expected an integer"),
        ("bytes_max = true", "bytes_max", "expected an integer"),
        ("bytes_max = 2000-01-01", "bytes_max", "expected an integer"),
        ("debug = 1", "debug", "expected true or false"),
        ("debug = 'yes'", "debug", "expected true or false"),
        ("sensors = 'a'", "sensors", "expected a list of texts"),
        ("sensors = ['a', 1]", "sensors", "expected a list of texts"),
        ("broker = 5", "broker", "expected a table"),
        ("[[broker]]", "broker", "expected a table"),
        ("[broker]\nport = 0", "broker.port", "0 is not at least 1, at most 65535"),
        ("[broker]\nport = 65536", "broker.port", "65536 is not at least 1"),
        ("[broker]\nhots = 'a'", "broker.hots", "unknown key; did you mean 'host'?"),
        ("nmae = 'a'", "nmae", "unknown key; did you mean 'name'?"),
        ("xyz = 1", "xyz", "unknown key; keys: ['name',"),
        ("[xyz]", "xyz", "unknown key"),
        ("name =", "", "not TOML"),
        ("name = 'a'\nname = 'b'", "", "not TOML"),
        ("\x00", "", "not TOML"),
        ("name = " + "[" * 5000, "", "not TOML"),
    ],
)
def test_document_with_a_wrong_key_names_file_key_and_bound(
    text: str, key: str, detail: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(Settings, text, FILE)

    assert (caught.value.file, caught.value.key) == (FILE, key)
    assert detail in caught.value.detail
    assert str(caught.value).startswith(f"{FILE}: {key}: " if key else f"{FILE}: ")


@pytest.mark.parametrize(
    ("text", "key"),
    [("[secret]\nfile = 'k'", "fleet"), ("fleet = 'f'", "secret.file")],
    ids=["at the top", "in a table that is absent"],
)
def test_document_without_a_required_key_names_it(text: str, key: str) -> None:
    with pytest.raises(ConfigError, match="missing; it has no default") as caught:
        load_settings(Required, text, FILE)

    assert caught.value.key == key


def test_sample_reads_back_to_the_defaults() -> None:
    assert load_settings(Settings, sample(Settings), FILE) == Settings()


def test_sample_explains_every_key_with_its_bounds() -> None:
    assert sample(Settings) == (
        "# For people.\n"
        'name = "board"\n'
        "# Log level. (debug | info | error)\n"
        'level = "info"\n'
        "# Share, below 1. (at least 0.0, at most 0.99)\n"
        "rate = 0.5\n"
        "# Spool limit, bytes. (at least 1048576)\n"
        "bytes_max = 1048576\n"
        "# Prints more.\n"
        "debug = false\n"
        "# Names of sensors.\n"
        'sensors = ["a", "b"]\n'
        "\n"
        "# Where the broker is.\n"
        "[broker]\n"
        "# Name or address.\n"
        'host = "localhost"\n'
        "# TCP port. (at least 1, at most 65535)\n"
        "port = 8883\n"
    )


def test_sample_of_required_keys_shows_them_or_takes_values() -> None:
    assert "# fleet =   # required" in sample(Required)

    written = sample(Required, {"fleet": "demo", "secret.file": "keys/a"})

    assert load_settings(Required, written, FILE) == Required("demo", Secret("keys/a"))


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    st.floats(0, 0.99),
)
def test_sample_with_any_values_reads_back(name: str, rate: float) -> None:
    written = sample(Settings, {"name": name, "rate": rate, "sensors": (name,)})

    assert tomllib.loads(written)["name"] == name
    read = load_settings(Settings, written, FILE)
    assert (read.name, read.rate, read.sensors) == (name, rate, (name,))


@dataclass(frozen=True)
class Versioned:
    config_version: int = setting(2, "Form of this file.", least=1)
    limits: Broker = table(Broker, "What must be kept.", strict=True)
    broker: Broker = table(Broker, "Where the broker is.")


LATER = """config_version = 3
extra = 1
[broker]
port = 1
quic = true
[mesh]
hops = 2
"""


def test_file_of_a_later_release_is_read_and_what_is_left_out_is_named() -> None:
    read = load_settings(Versioned, LATER, FILE)

    assert read == Versioned(config_version=3, broker=Broker(port=1))
    assert ignored_keys(Versioned, LATER, FILE) == ("extra", "broker.quic", "mesh")


@pytest.mark.parametrize("version", ["2", "1"])
def test_file_of_this_release_has_no_unknown_key(version: str) -> None:
    text = LATER.replace("= 3", f"= {version}", 1)

    with pytest.raises(ConfigError) as failure:
        load_settings(Versioned, text, FILE)
    assert failure.value.key == "extra"
    assert ignored_keys(Versioned, text, FILE) == ()


def test_later_file_does_not_lift_a_limit_that_is_not_known() -> None:
    text = "config_version = 3\n[limits]\nepsilon_a_day = 1\n"

    with pytest.raises(ConfigError) as failure:
        load_settings(Versioned, text, FILE)
    assert failure.value.key == "limits.epsilon_a_day"


@pytest.mark.parametrize("version", ["true", "3.0", "'3'", "0"])
def test_version_is_a_number_of_ours(version: str) -> None:
    with pytest.raises(ConfigError) as failure:
        load_settings(Versioned, f"config_version = {version}\n", FILE)
    assert failure.value.key == "config_version"


def test_class_without_a_version_knows_no_later_release() -> None:
    with pytest.raises(ConfigError, match="unknown key"):
        load_settings(Settings, "config_version = 9\n", FILE)


@pytest.mark.parametrize("odd", ["port = " + "1" * 5000, "port = " + "[" * 100_000])
def test_number_or_nest_beyond_what_python_reads_is_no_toml(odd: str) -> None:
    with pytest.raises(ConfigError, match="not TOML"):
        load_settings(Broker, odd, FILE)


def test_text_with_a_nul_is_refused_before_a_path_is_made_of_it() -> None:
    with pytest.raises(ConfigError, match="host: expected a text without a NUL"):
        load_settings(Settings, '[broker]\nhost = "a\\u0000b"\n', FILE)


def test_byte_order_mark_before_a_document_is_none_of_its_text() -> None:
    assert load_settings(Settings, '\ufeffname = "pi"\n', FILE).name == "pi"


@pytest.mark.parametrize(
    "host",
    ["", "localhost", "192.0.2.1", "2001:db8::1", "::1", "b\u00fccher.example", "a_b"],
)
def test_host_is_a_name_or_an_address(host: str) -> None:
    text = f'broker.host = "{host}"'

    assert load_settings(Settings, text, FILE).broker.host == host


@pytest.mark.parametrize(
    "host",
    [
        "192.0.2.1:8883",
        "broker.example:8883",
        "[::1]",
        "[::1]:8883",
        "mqtts://broker.example",
        "fe80::1%eth0",
        "user@broker.example",
        "two words",
        "b" * 254,
    ],
)
def test_host_with_more_than_a_host_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="without port, scheme or zone") as caught:
        load_settings(Settings, f'broker.host = "{host}"', FILE)

    assert str(caught.value).startswith(f"{FILE}: broker.host: ")
