"""Making an enrolment token: a line for the newcomer, a record for the registrar."""

import os
import time

from starling.broker.broker_settings import ascii_host
from starling.broker.runtime.broker_home import BrokerHome
from starling.broker.runtime.pinned_authority import fingerprint
from starling.coordinator.enrolment.registrar import TokenRecord
from starling.coordinator.runtime.enrolment.enrolment_store import EnrolmentStore
from starling.protocol.crypto.scram import SECRET_BYTES, scram_keys
from starling.protocol.wire.enrolment_messages import TOKEN_ID_BYTES, EnrolmentKind
from starling.protocol.wire.enrolment_token import EnrolmentToken


def issue_token(
    broker: BrokerHome,
    host: str,
    kind: EnrolmentKind,
    uses: int,
    life_s: int,
    *,
    by_hand: bool = False,
) -> tuple[EnrolmentToken, TokenRecord]:
    """Makes a token, good from now on.

    Args:
      broker: At which newcomers enrol.
      host: Where they reach it.
      kind: Who may enrol with it.
      uses: How many may.
      life_s: How long it is good.
      by_hand: Whether an operator accepts each by its code.

    Returns:
      The token, whose secret is kept nowhere, and its record.

    Raises:
      ConfigError: If the broker takes no newcomers, or the host cannot be.
      StorageError: If the disk refuses.
    """
    asked = broker.require_settings()
    # Says what to do where the broker takes no newcomers.
    broker.enrolment.registrar(asked, broker.authority_certificate)
    token = EnrolmentToken(
        ascii_host(host),
        asked.enrol_port,
        asked.fleet,
        # With it a newcomer knows the broker before it has any certificate of it.
        fingerprint(broker.authority_certificate),
        os.urandom(TOKEN_ID_BYTES),
        os.urandom(SECRET_BYTES),
        kind == EnrolmentKind.PARTY,
    )
    keys, until_s = scram_keys(token.secret), int(time.time()) + life_s
    record = TokenRecord(token.identity, kind, keys, uses, until_s, by_hand)
    EnrolmentStore(broker.path).add_token(record)
    return token, record
