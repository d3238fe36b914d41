"""Strategies for the messages that admit a board and renew its certificate."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from starling.protocol.wire import enrolment_messages, renewal_messages
from tests.contract.wire.field_values import digests, names, signatures, upto

_hellos = st.builds(
    enrolment_messages.EnrolmentHello,
    st.just(enrolment_messages.EXCHANGE_VERSION),
    st.binary(min_size=8, max_size=8),
    upto(max(enrolment_messages.EnrolmentKind)),
    digests,
    st.binary(min_size=1, max_size=80),
)
_challenges = st.builds(enrolment_messages.EnrolmentChallenge, digests, digests)
ENROLMENT_VALUES: dict[str, SearchStrategy[Any]] = {
    "RENEWAL": st.builds(
        renewal_messages.CertificateRenewal,
        st.just(renewal_messages.RENEWAL_VERSION),
        st.binary(min_size=1, max_size=80),
        signatures,
    ),
    "RENEWED": st.one_of(
        st.builds(
            renewal_messages.RenewalAnswer,
            st.just(renewal_messages.RenewalState.RENEWED.value),
            st.binary(min_size=1, max_size=80),
            names,
        ),
        st.builds(
            renewal_messages.RenewalAnswer,
            st.sampled_from([0, 2]),
            st.just(b""),
            names,
        ),
    ),
    "HELLO": _hellos,
    "CHALLENGE": _challenges,
    "CLAIM": st.builds(
        enrolment_messages.EnrolmentClaim, _hellos, _challenges, digests
    ),
    "OUTCOME": st.one_of(
        st.builds(
            enrolment_messages.EnrolmentOutcome,
            st.just(enrolment_messages.EnrolmentState.ADMITTED.value),
            names,
            st.binary(min_size=1, max_size=80),
            digests,
        ),
        st.builds(
            enrolment_messages.EnrolmentOutcome,
            st.sampled_from([0, 2]),
            names,
            st.just(b""),
            st.binary(max_size=32),
        ),
    ),
}
