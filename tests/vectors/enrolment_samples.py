"""Messages that admit a board and renew its certificate, from fixed keys."""

from starling.protocol.crypto import scram
from starling.protocol.wire import enrolment_messages, renewal_messages
from tests.vectors.protocol_samples import VALIDATOR_KEYS

HELLO = enrolment_messages.EnrolmentHello(
    enrolment_messages.EXCHANGE_VERSION,
    bytes(range(8)),
    enrolment_messages.EnrolmentKind.BOARD,
    bytes(range(32)),
    b"{}",
)
ENROLMENT_CHALLENGE = enrolment_messages.EnrolmentChallenge(
    VALIDATOR_KEYS[0].public, bytes(range(32, 64))
)
TOKEN_SECRET = bytes(range(20))
AUTHORITY = bytes(range(96, 128))
CLAIM = enrolment_messages.make_claim(
    TOKEN_SECRET, AUTHORITY, HELLO, ENROLMENT_CHALLENGE
)
OUTCOME = enrolment_messages.sign_outcome(
    scram.scram_keys(TOKEN_SECRET),
    enrolment_messages.transcript(AUTHORITY, HELLO, ENROLMENT_CHALLENGE),
    enrolment_messages.EnrolmentState.ADMITTED,
    document=b"{}",
)
RENEWAL = renewal_messages.sign_renewal(VALIDATOR_KEYS[0], AUTHORITY, b"a certificate")
RENEWED = renewal_messages.RenewalAnswer(
    renewal_messages.RenewalState.RENEWED, b"another certificate", ""
)
