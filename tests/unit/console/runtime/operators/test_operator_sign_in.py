"""Operators sign in with a token, and nobody else does anything."""

import json
import re
import time
from contextlib import ExitStack

import pytest

from starling.coordinator.runtime.home import CoordinatorHome
from starling.coordinator.runtime.operations.operator_tokens import (
    revoke_token,
    tokens_file,
)
from tests.unit.console.conftest import RunningConsole, launch
from tests.unit.console.runtime.operator_home import Operator, dropped, new_token
from tests.unit.coordinator.fixtures.line_task import TASK

ACTIONS = (
    "admit",
    "enrol",
    "revoke",
    "price",
    "publish",
    "resume",
    "export",
    "card",
    "sign-out",
)


def test_operator_signs_in_and_out_and_nothing_secret_is_told(
    console: RunningConsole, token: str
) -> None:
    ana = Operator(console)
    assert "Sign in" in ana.ask("/").text

    answer = ana.sign_in(token)

    cookie = answer.headers["set-cookie"]
    assert answer.headers["location"] == "/"
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Ana" in ana.ask("/").text
    secrets = [token.split(".")[1], ana.cookie.split("=")[1], ana.csrf]
    assert ana.post("/act/sign-out").status == 303
    assert "Ana" not in ana.ask("/").text
    log = console.log.read_text()
    assert "Ana signed in" in log
    assert not [secret for secret in secrets if secret in log]


def test_only_hashes_are_on_the_disk(home: CoordinatorHome, token: str) -> None:
    text = tokens_file(home).read_text()

    assert token.split(".")[1] not in text
    assert all(row["hash"].startswith("$argon2id$") for row in json.loads(text))
    assert tokens_file(home).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "given",
    [
        "",
        ".",
        "nobody.x",
        "{id}",
        "{id}.",
        "{id}.x",
        "{token}x",
        "x" * 3000,
        "\x00\x00",
    ],
)
def test_what_is_no_token_lets_nobody_in(
    console: RunningConsole, token: str, given: str
) -> None:
    name = token.split(".")[0]
    guess = Operator(console, address=f"127.0.1.{len(given) % 250 + 1}")

    answer = guess.sign_in(given.format(id=name, token=token))

    assert answer.status == 403
    assert "set-cookie" not in answer.headers


def test_token_of_the_past_and_revoked_one_are_worth_nothing(
    console: RunningConsole, home: CoordinatorHome
) -> None:
    day_s = 86_400
    over = new_token(home, time.time() - 2 * day_s)
    assert Operator(console, address="127.0.3.1").sign_in(over).status == 403

    short = new_token(home, time.time())
    ben = Operator(console)
    assert ben.sign_in(short).status == 303
    assert ben.ask("/publish").status == 200
    revoke_token(home, short.split(".")[0])

    assert ben.ask("/publish").status == 303
    assert ben.post("/act/price", bundle="line", task=TASK).status == 403


def test_guesses_shut_out_the_address_that_made_them_alone(
    console: RunningConsole, token: str
) -> None:
    guesser = Operator(console, address="127.0.2.1")

    found = [guesser.sign_in(f"{number:08x}.x").status for number in range(12)]

    assert found == [403] * 10 + [429] * 2
    assert guesser.sign_in(token).status == 429
    assert Operator(console).sign_in(token).status == 303
    failed = re.search(
        r"^starling_console_failed_sign_ins_total (\d+)$",
        Operator(console).ask("/metrics").text,
        re.MULTILINE,
    )
    assert failed is not None
    assert int(failed[1]) >= 10


@pytest.mark.parametrize("action", ACTIONS)
def test_nothing_is_done_without_session_and_secret(
    console: RunningConsole, ana: Operator, home: CoordinatorHome, action: str
) -> None:
    before, path = dropped(home), f"/act/{action}"

    assert Operator(console).post(path, task="0").status == 403
    assert ana.ask(path, "POST", b"csrf=wrong&task=0").status == 403
    assert ana.ask(path, "POST", b"task=0").status == 403
    assert ana.ask(path).status in (404, 405)
    ana.headers = {"Sec-Fetch-Site": "cross-site"}
    assert ana.post(path, task="0").status == 403

    assert dropped(home) == before


def test_pages_of_operators_lead_others_to_the_way_in(console: RunningConsole) -> None:
    for path in ("/publish", "/admit", f"/boards/{'b' * 26}/admission"):
        answer = Operator(console).ask(path)
        assert (answer.status, answer.headers["location"]) == (303, "/sign-in")


def test_console_that_others_reach_takes_no_operators_without_tls(
    home: CoordinatorHome, token: str
) -> None:
    with ExitStack() as stack:
        ana = Operator(launch(stack, home.path, "--web", "0.0.0.0:0"))

        assert ana.sign_in(token).status == 403
        assert "over TLS" in ana.ask("/sign-in").text


def test_cookie_of_another_program_on_the_host_does_not_sign_out(
    ana: Operator,
) -> None:
    ana.cookie = f'other={{"a": 1}}; {ana.cookie}'

    assert "Sign out" in ana.ask("/").text
