"""How fast this machine is now: what figures of different machines are compared by.

Machines that several share differ by a factor of three from day to day. Bare Ed25519
verifications by libsodium are the floor of whatever checks signatures, and they run as
fast as the processor does.
"""

import time

from starling.protocol.crypto.keys import SigningKey, verify

_MESSAGE = bytes(200)
_COUNT = 500
_TURNS = 5


def verifications_per_s() -> float:
    """Ed25519 verifications of 200 bytes per second of one core; the best of five."""
    key = SigningKey(bytes(range(32)))
    signature = key.sign(_MESSAGE)
    best_s = min(_once(key, signature) for _ in range(_TURNS))
    return _COUNT / best_s


def _once(key: SigningKey, signature: bytes) -> float:
    start_s = time.process_time()
    for _ in range(_COUNT):
        verify(key.public, _MESSAGE, signature)
    return time.process_time() - start_s
