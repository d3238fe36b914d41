"""Vector codecs as tasks and the chain know them: bytes, length and noise of an update.

No numpy is needed here; `protocol.learning.vector_codecs` encodes and decodes.

Whoever rounds to few bits makes what is decoded longer, and the noise in it larger.
Both are public facts of the codec: coordinators widen the norm bound by the one, and
take the other for noise where they reckon with it.
"""

from dataclasses import dataclass

BLOCK = 256
"""Parameters that share a scale, and a rotation."""
SEED_BYTES = 16
"""Of a rotation."""
SCALE_BYTES = 3
"""Of a rotated block."""
_PACKED_SHARE = 64
"""Levels, exponents and what a deflated stream adds stay below d + d / 64."""
_ROUNDING = 2.0**-14
"""By which a scale of 16 bits may be too large, and more."""


@dataclass(frozen=True)
class CodecTerms:
    """Costs and effects of a codec.

    Attributes:
      name: What configurations call it.
      bits: For one parameter; 8, 4, 2 and 1 make a byte.
      rotated: Whether blocks are rotated, so that rounding spreads over all of one.
      spread_milli: Deviation of noise once it is decoded, over what it was, in 10^-3:
        `sqrt(1 + D)` for a codec whose mean squared error is D times the square.
    """

    name: str
    bits: int
    rotated: bool = False
    spread_milli: int = 1000

    def payload_bytes_max(self, dimension: int) -> int:
        """The longest encoded vector of d parameters; the exact length if rotated."""
        if self.rotated:
            blocks = -(-dimension // BLOCK)
            return SEED_BYTES + blocks * (SCALE_BYTES + BLOCK * self.bits // 8)
        if self.bits == 8:
            # A bound: the length of a Huffman code depends on the vector.
            return dimension + dimension // _PACKED_SHARE
        return self.bits // 8 * dimension

    @property
    def stretch(self) -> float:
        """Most by which a decoded block is longer than what was encoded, if rotated."""
        return (1 + 2.0**-self.bits) * (1 + _ROUNDING)


CODEC_TERMS = {
    0: CodecTerms("float32", 32),
    1: CodecTerms("block8", 8),
    2: CodecTerms("packed8", 8),
    3: CodecTerms("rotated4", 4, rotated=True, spread_milli=1006),
    4: CodecTerms("rotated2", 2, rotated=True, spread_milli=1066),
    5: CodecTerms("rotated1", 1, rotated=True, spread_milli=1254),
}
"""By the number that stands on the wire."""
CODEC_NAMES = tuple(terms.name for terms in CODEC_TERMS.values())


def codec_number(name: str) -> int:
    """The number of a codec's name.

    Raises:
      KeyError: If there is none.
    """
    return {codec.name: number for number, codec in CODEC_TERMS.items()}[name]
