"""A coordinator's certificate for the broker, issued anew long before it ends."""

import logging
from pathlib import Path

from starling.broker.certificate_dates import days_left
from starling.broker.runtime.broker_home import BrokerHome
from starling.broker.runtime.certificate_authority import (
    CERTIFICATE_DAYS,
    PEM_BYTES_MAX,
    PUBLIC_MODE,
    certified_key,
)
from starling.coordinator.runtime.home import CoordinatorHome
from starling.durable.files import read_limited, write_atomic

RENEW_DAYS = CERTIFICATE_DAYS / 2
"""At half its life; so there is as long again to notice that it does not work."""
WARN_DAYS = 60
log = logging.getLogger("starling.coordinator")


def renew_certificate(home: CoordinatorHome, now_s: float) -> bool:
    """Has the broker's authority certify our TLS key again, if it is time.

    Where the authority's key is kept elsewhere nothing is done, and a warning is logged
    once the end is near.

    Args:
      home: The coordinator's folder.
      now_s: Unix time.

    Returns:
      Whether there is a new certificate.

    Raises:
      ConfigError: If the certificate or the authority is damaged.
      StorageError: If the disk refuses.
    """
    path = home.tls_files().certificate
    if not path.exists():
        return False
    left = days_left(read_limited(path, PEM_BYTES_MAX).decode(errors="replace"), now_s)
    if left > RENEW_DAYS:
        return False
    folder = home.config().broker.home
    broker = BrokerHome(Path(folder))
    if not folder or not broker.authority_key.exists():
        if left < WARN_DAYS:
            log.warning(
                "%s ends in %.0f days, and %s is not here to issue another; put it "
                "back and start the coordinator again",
                path,
                left,
                broker.authority_key,
            )
        return False
    issued = broker.authority().issue(home.name, certified_key(path))
    write_atomic(path, issued, PUBLIC_MODE)
    log.info("the certificate for the broker had %.0f days left and is renewed", left)
    return True
