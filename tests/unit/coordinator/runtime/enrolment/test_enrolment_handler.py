"""A registrar's answers to newcomers: tokens, codes, refusals."""

import pytest

from starling.broker.runtime.enrolment_client import EnrolmentClient
from starling.coordinator.runtime.enrolment.enrolment_store import ClaimState
from starling.coordinator.runtime.enrolment.newcomers import RETRY_S
from starling.coordinator.runtime.home import CoordinatorHome
from starling.protocol.errors import (
    ConfigError,
    OperationError,
)
from starling.protocol.wire.enrolment_messages import (
    OUTCOME,
    EnrolmentKind,
    EnrolmentState,
)
from starling.protocol.wire.enrolment_token import letters
from starling.protocol.wire.topics import Topics
from tests.unit.coordinator.runtime.enrolment.registrar_world import (
    TOKEN,
    Gate,
    World,
    told,
)

TOPICS = Topics("meadow")


def states(world: World) -> list[ClaimState]:
    return [claim.state for claim in world.store.claims()]


def test_newcomer_with_a_token_is_admitted_once_the_chain_says_so(world: World) -> None:
    world.token()
    talk = world.newcomer("anna")

    assert world.pass_on(talk) is None
    assert states(world) == [ClaimState.ACCEPTED]
    outcome = told(talk, world.handler.process_pending())

    assert outcome is not None
    assert outcome.document == b'{"admitted": 1}'
    assert [claim.code for claim in world.store.claims()] == [talk.code]


def test_second_newcomer_with_a_token_for_one_is_refused(world: World) -> None:
    world.token()
    world.pass_on(world.newcomer("anna"))

    refused = world.pass_on(world.newcomer("ben"))

    assert refused is not None
    assert refused.state == EnrolmentState.REFUSED
    assert "used" in refused.detail


def test_admitted_newcomer_that_asks_again_hears_the_same_at_no_further_use(
    world: World,
) -> None:
    world.token()
    world.pass_on(world.newcomer("anna"))
    world.handler.process_pending()
    world.begin()

    outcome = world.pass_on(world.newcomer("anna", client="another-connection"))

    assert outcome is not None
    assert outcome.state == EnrolmentState.ADMITTED
    assert world.gate.asked == ["anna"]


def test_admitted_newcomer_that_was_expelled_since_is_not_told_of_its_admission(
    world: World,
) -> None:
    world.token()
    world.pass_on(world.newcomer("anna"))
    world.handler.process_pending()
    world.gate.expelled.add("anna")

    outcome = world.pass_on(world.newcomer("anna", client="another-connection"))

    assert outcome is not None
    assert outcome.state == EnrolmentState.REFUSED
    assert outcome.detail == "anna was expelled"
    assert outcome.document == b""
    assert world.gate.asked == ["anna"]


@pytest.mark.parametrize(
    ("accepts", "state"),
    [(True, EnrolmentState.ADMITTED), (False, EnrolmentState.REFUSED)],
)
def test_code_is_accepted_or_rejected_by_hand(
    world: World, accepts: bool, state: EnrolmentState
) -> None:
    world.token(by_hand=True)
    talk = world.newcomer("anna")
    world.pass_on(talk)
    assert world.handler.process_pending() == []
    assert states(world) == [ClaimState.PENDING]

    world.store.decide(talk.code.lower().replace("-", ""), accepts=accepts)
    outcome = told(talk, world.handler.process_pending())

    assert outcome is not None
    assert outcome.state == state
    assert world.store.decisions() == {}
    assert (world.gate.asked == ["anna"]) is accepts


def test_decision_about_a_code_that_nobody_shows_names_those_that_are(
    world: World,
) -> None:
    world.token(by_hand=True)
    talk = world.newcomer("anna")
    world.pass_on(talk)

    with pytest.raises(OperationError, match=talk.code):
        world.store.decide("AAAA-AAAA", accepts=True)


def test_claim_replayed_over_another_connection_gets_a_challenge_alone(
    world: World,
) -> None:
    world.token(uses=5)
    talk = world.newcomer("anna")
    thief = TOPICS.enrolment_claim("thief")

    answers = world.handler.receive(thief, talk.payload)

    assert [each.topic for each in answers] == [TOPICS.enrolment_challenge("thief")]
    assert world.store.claims() == []
    assert world.handler.refused["REPLAYED"] == 1


def test_revoked_token_is_refused_without_a_signature(world: World) -> None:
    world.token()
    talk = world.newcomer("anna")
    world.store.remove_token(letters(TOKEN.identity))

    answers = world.handler.receive(talk.topic, talk.payload)

    outcome = OUTCOME.unpack(answers[0].payload)
    assert (outcome.state, outcome.signature) == (EnrolmentState.REFUSED, b"")
    with pytest.raises(OperationError, match="revoked"):
        talk.receive(answers[0].topic, answers[0].payload)


def test_expired_token_is_refused(world: World) -> None:
    world.token()
    talk = world.newcomer("anna")
    world.now_s += 3600

    with pytest.raises(OperationError, match="expired"):
        world.pass_on(talk)
    assert world.store.claims() == []


def test_newcomer_that_waits_is_accepted_though_its_token_has_expired(
    world: World,
) -> None:
    world.token(by_hand=True)
    talk = world.newcomer("anna")
    world.pass_on(talk)
    world.now_s += 3600
    world.store.decide(talk.code, accepts=True)

    told(talk, world.handler.process_pending())
    outcome = world.pass_on(talk)

    assert outcome is not None
    assert outcome.state == EnrolmentState.ADMITTED


def test_chains_refusal_is_told_and_kept(world: World) -> None:
    world.token()
    talk = world.newcomer("anna")
    world.pass_on(talk)
    world.gate.says = OperationError("it is\nrevoked")

    outcome = told(talk, world.handler.process_pending())

    assert outcome is not None
    assert outcome.detail == "it is revoked"
    assert states(world) == [ClaimState.REFUSED]


@pytest.mark.parametrize(
    ("again", "after"),
    [(True, [ClaimState.ADMITTED]), (False, [ClaimState.REFUSED])],
    ids=["party", "board"],
)
def test_newcomer_that_was_refused_and_asks_again_is_looked_at_if_its_kind_is(
    world: World, again: bool, after: list[ClaimState]
) -> None:
    world.token()
    world.gate.retries_refused = again
    world.gate.says = OperationError("another party is called so")
    world.pass_on(world.newcomer("anna"))
    world.handler.process_pending()
    world.gate.says = b"{}"

    world.pass_on(world.newcomer("anna", client="another-connection"))
    world.handler.process_pending()

    assert states(world) == after


def test_trouble_of_the_registrars_own_is_told_once_and_not_each_time(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.token()
    world.gate.says = ConfigError("no authority.key here")
    world.pass_on(world.newcomer("anna"))

    for _ in range(3):
        world.handler.process_pending()
        world.now_s += RETRY_S

    assert len(world.gate.asked) == 3
    assert caplog.text.count("no authority.key here") == 1


def test_newcomer_that_waits_is_told_for_what(world: World) -> None:
    world.token()
    talk = world.newcomer("anna")
    world.gate.waits_for = "2 of 4 are\nin"

    assert world.pass_on(talk) is None

    assert talk.waiting == "2 of 4 are in"


@pytest.mark.parametrize("says", [None, ConfigError("no authority.key here")])
def test_admission_that_cannot_be_made_now_is_tried_again_later(
    world: World, says: Exception | None
) -> None:
    world.token()
    talk = world.newcomer("anna")
    world.pass_on(talk)
    world.gate.says = says
    assert world.handler.process_pending() == []
    world.gate.says = b"{}"
    assert world.handler.process_pending() == []

    world.now_s += RETRY_S

    assert told(talk, world.handler.process_pending()) is not None


def test_newcomer_with_other_keys_is_admitted_anew_at_no_further_use(
    world: World,
) -> None:
    class Renamed(Gate):
        def name(self, document: bytes) -> str:
            return document.decode().split("0")[0]

    world.gate = Renamed()
    world.begin()
    world.token()
    world.pass_on(world.newcomer("anna"))
    world.handler.process_pending()

    talk = world.newcomer("anna01")
    assert world.pass_on(talk) is None
    told(talk, world.handler.process_pending())

    assert world.gate.asked == ["anna", "anna01"]
    assert len(world.store.claims()) == 1


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "starling/1/other/e/x/hello",
        "starling/1/meadow/e/x/outcome",
        "starling/1/meadow/d/x/say",
        "starling/1/meadow/e/" + "x" * 65 + "/hello",
    ],
)
@pytest.mark.parametrize("payload", [b"", b"\x00" * 200_000])
def test_whatever_else_arrives_is_no_claim(
    world: World, topic: str, payload: bytes
) -> None:
    world.token()

    world.handler.receive(topic, payload)

    assert world.store.claims() == []


@pytest.mark.parametrize("document", ["anna".encode("utf-16"), b"\xed\xa0\x80"])
def test_document_that_is_no_utf_8_is_refused_though_a_token_proves_it(
    world: World, document: bytes
) -> None:
    world.token()
    talk = EnrolmentClient(TOKEN, EnrolmentKind.BOARD, document, "anna", b"n" * 32)
    world.pass_on(talk)

    with pytest.raises(OperationError, match="not UTF-8"):
        world.pass_on(talk)

    assert states(world) == []
    assert world.handler.refused.total() == 1


def test_who_is_not_admitted_yet_is_rejected_with_its_token(world: World) -> None:
    world.token()
    world.gate.says = None
    world.pass_on(world.newcomer("anna"))
    world.handler.process_pending()
    [claim] = world.store.claims()
    assert claim.state is ClaimState.ACCEPTED

    world.store.reject(claim)
    world.gate.says = b"{}"
    world.now_s += 2 * RETRY_S
    world.handler.process_pending()

    assert states(world) == [ClaimState.REJECTED]
    assert world.gate.asked == ["anna"]


def test_token_revoked_amid_a_crowd_admits_nobody_further(world: World) -> None:
    world.token(uses=3)
    talks = [world.newcomer(name) for name in ("anna", "ben", "carl")]
    for talk in talks:
        world.pass_on(talk)
    admit = world.gate.admit

    def revokes(home: CoordinatorHome, document: bytes) -> bytes | None:
        for claim in world.store.claims():
            if claim.document != document.decode():
                world.store.reject(claim)
        return admit(home, document)

    world.gate.admit = revokes  # type: ignore[method-assign]  # the operator's hand
    answers = world.handler.process_pending()

    assert world.gate.asked == ["anna"]
    assert sorted(states(world)) == ["admitted", "rejected", "rejected"]
    refused = told(talks[2], answers)
    assert refused is not None
    assert refused.state == EnrolmentState.REFUSED
