"""A coordinator's certificate for the broker, issued anew long before it ends."""

import logging
from pathlib import Path

from starling.broker.certificate_reader import HALF_LIFE_DAYS, days_left
from starling.broker.runtime.broker_home import BrokerHome
from starling.broker.runtime.certificate_authority import (
    PEM_BYTES_MAX,
    PUBLIC_MODE,
    certified_key,
)
from starling.coordinator.runtime.home import CoordinatorHome
from starling.durable.files import read_limited, write_atomic
from starling.protocol.errors import ConfigError, DecodeError, FederationError

WARN_DAYS = 60
log = logging.getLogger("starling.coordinator")


def renew_certificate(home: CoordinatorHome, now_s: float) -> bool:
    """Has the broker's authority certify our TLS key again, if it is time.

    Where the authority's key is kept elsewhere nothing is done, and a warning is logged
    once the end is near; one that cannot be used is warned of, and ends nothing.

    Args:
      home: The coordinator's folder.
      now_s: Unix time.

    Returns:
      Whether there is a new certificate.

    Raises:
      ConfigError: If the certificate is damaged.
      StorageError: If the disk refuses.
    """
    path = home.tls_files().certificate
    if not path.exists():
        return False
    pem = read_limited(path, PEM_BYTES_MAX).decode(errors="replace")
    try:
        left = days_left(pem, now_s)
    except DecodeError as error:
        raise ConfigError(str(error), file=str(path)) from error
    # Half a life is left for whoever keeps the authority's key elsewhere.
    if left > HALF_LIFE_DAYS:
        return False
    try:
        issued = _issued(home, left)
    except FederationError as error:
        # What there is may hold for a year yet.
        log.warning("%s ends in %.0f days and is not renewed: %s", path, left, error)
        return False
    if issued is None:
        return False
    write_atomic(path, issued, PUBLIC_MODE)
    log.info("the certificate for the broker had %.0f days left and is renewed", left)
    return True


def _issued(home: CoordinatorHome, left: float) -> bytes | None:
    """A new certificate in PEM; None where the authority's key is not here."""
    path, folder = home.tls_files().certificate, home.config().broker.home
    if not folder:
        if left < WARN_DAYS:
            log.warning(
                "%s ends in %.0f days; join the broker again, with a token of its "
                "operator: starling coordinator init --token LINE",
                path,
                left,
            )
        return None
    broker = BrokerHome(Path(folder))
    if not broker.certificates.has_key():
        if left < WARN_DAYS:
            log.warning(
                "%s ends in %.0f days, and %s is not here to issue another; put it "
                "back and start the coordinator again",
                path,
                left,
                broker.certificates.authority_key,
            )
        return None
    # For the same key: its secret stays where it is.
    return broker.certificates.authority().issue(home.name, certified_key(path))
