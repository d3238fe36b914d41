"""Guards of a page for people over a network: a reader's token, and TLS.

Source: RFC 8446 for TLS 1.3, the only version that is spoken.
"""

import argparse
import ssl
from dataclasses import dataclass
from pathlib import Path

from starling.durable.files import require_private
from starling.protocol.errors import ConfigError


@dataclass(frozen=True)
class WebAccess:
    """Files that guard a page; none by default.

    Attributes:
      token_file: Of the token that readers need.
      certificate: PEM chain of the server, its own first; goes with `key`.
      key: PEM private key, which nobody else can read.
    """

    token_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def words(self) -> list[str]:
        """The flags that say the same."""
        named = {
            "--web-token-file": self.token_file,
            "--web-cert": self.certificate,
            "--web-key": self.key,
        }
        return [
            word
            for flag, file in named.items()
            if file is not None
            for word in (flag, str(file))
        ]

    def tls(self) -> ssl.SSLContext | None:
        """Context in which a server speaks TLS; None if it does not.

        Raises:
          ConfigError: Naming the file that is missing, cannot be read, can be read by
            others, or does not go with the other one.
        """
        if self.certificate is None or self.key is None:
            return None
        require_private(self.key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            # Without a password OpenSSL would ask for one at the terminal, and wait.
            context.load_cert_chain(self.certificate, self.key, password="")
        except (OSError, ValueError) as error:
            said = error.reason if isinstance(error, ssl.SSLError) else str(error)
            raise ConfigError(
                f"cannot be used with {self.key}: {said}; give a certificate in PEM, "
                "its chain after it, and its own key without a password",
                file=str(self.certificate),
            ) from error
        return context


def add_web_access(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of whoever shows a page."""
    parser.add_argument(
        "--web-token-file",
        type=Path,
        metavar="FILE",
        help="only who knows what is in this file reads the console",
    )
    parser.add_argument(
        "--web-cert",
        type=Path,
        metavar="FILE",
        help="PEM certificate of the console, for TLS; goes with --web-key",
    )
    parser.add_argument(
        "--web-key",
        type=Path,
        metavar="FILE",
        help="PEM key of --web-cert, with mode 0600",
    )


def web_access(options: argparse.Namespace) -> WebAccess:
    """Reads the flags of `add_web_access`.

    Raises:
      ConfigError: If one of two that go together is missing.
    """
    access = WebAccess(options.web_token_file, options.web_cert, options.web_key)
    if (access.certificate is None) != (access.key is None):
        missing = "--web-cert" if access.certificate is None else "--web-key"
        raise ConfigError(f"give {missing} FILE with it", key="--web-key")
    return access
