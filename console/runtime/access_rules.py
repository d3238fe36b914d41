"""Rules about who may read the console, and by which names it is called.

Source: CWE-350 on DNS rebinding.
"""

import hashlib
import hmac
import ipaddress
from dataclasses import dataclass, field

from starlette.datastructures import Headers

_LOCAL_NAMES = frozenset({"localhost"})
_PURPOSE = b"starling console session"


@dataclass(frozen=True)
class AccessRules:
    """Rules of who may read.

    Attributes:
      loopback: Whether only this machine reaches the console.
      names: Host names that it is called by, besides addresses and localhost.
      token: Needed by every reader; empty for none.
      tls: Whether the console itself speaks TLS.
    """

    loopback: bool
    names: frozenset[str] = field(default_factory=frozenset)
    token: bytes = b""
    tls: bool = False

    @property
    def operators(self) -> bool:
        """True if an operator's token is not seen on its way here."""
        return self.loopback or self.tls

    def cookie(self) -> str:
        """Value of the cookie of who knows the token; it does not tell the token."""
        return hmac.digest(self.token, _PURPOSE, "sha256").hex()

    def takes_host(self, header: str) -> bool:
        """True if a request's Host may be answered.

        A page of somebody else can have its name lead to this machine; then the
        browser says that name. Addresses cannot be made to lead elsewhere.
        """
        host = header.strip().lower()
        if host.startswith("["):
            host = host[1:].partition("]")[0]
        else:
            host = host.partition(":")[0]
        try:
            known = ipaddress.ip_address(host)
        except ValueError:
            return host in _LOCAL_NAMES or host in self.names
        return known.is_loopback or not self.loopback

    def is_token(self, given: bytes) -> bool:
        """True if it is the token; takes as long for every wrong one."""
        ours = hashlib.sha256(self.token).digest()
        return hmac.compare_digest(hashlib.sha256(given).digest(), ours)

    def is_reader(self, headers: Headers, cookie: str) -> bool:
        """True if a request has the cookie or, as machines do, the token."""
        if not self.token:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.is_token(given.strip().encode())
        return hmac.compare_digest(cookie.encode(), self.cookie().encode())
