"""Reasons to issue a certificate anew."""

from dataclasses import dataclass
from pathlib import Path

from starling.broker.runtime.certificate_authority import CERTIFICATE_DAYS, days_left
from starling.protocol.errors import ConfigError

RENEW_DAYS = 60
HALF_LIFE_DAYS = CERTIFICATE_DAYS / 2


@dataclass(frozen=True)
class CertificateNeed:
    """Reason to issue a certificate.

    Attributes:
      text: What is wrong with the one that is there.
      is_needed: Whether nothing works before.
    """

    text: str
    is_needed: bool


def certificate_need(certificate: Path, *, at_half: bool) -> CertificateNeed | None:
    """Reason to issue a client's or server's certificate; None if it is still good.

    At half its life where that can be done, else once its end is near.
    """
    if not certificate.exists():
        return CertificateNeed(f"{certificate} is missing", is_needed=True)
    try:
        left = days_left(certificate)
    except ConfigError as error:
        return CertificateNeed(str(error), is_needed=True)
    if left > (HALF_LIFE_DAYS if at_half else RENEW_DAYS):
        return None
    ends = f"ends in {left:.0f} days" if left > 0 else f"ended {-left:.0f} days ago"
    return CertificateNeed(f"{certificate} {ends}", is_needed=False)
