"""Update vectors: block floating point, decoded and summed in exact integers.

`d` is the number of parameters. A vector lives on the grid of 2^-24 as (d,) int64;
the wire carries it as float32, as blocks of 256 signed bytes with one power-of-two
exponent each, plain or Huffman-coded, or as rotated blocks of 4, 2 or 1 bits
(`protocol.learning.rotated_blocks`). Decoding is exact, so that any machine sums the
same updates to the same bytes in any order.

Magnitudes stay below 2^38 grid units, weights are at most 2^15 and buffers hold at
most 2^10 updates, so that no weighted sum leaves int64.

Rounding is unbiased and happens after the noise, as post-processing: it costs no
privacy. No remainder is kept for a later update (error feedback); docs/privacy.md says
why.
"""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starling.protocol.errors import DecodeError, NonFinite, NormExceeded, ShapeMismatch
from starling.protocol.learning.codec_terms import (
    BLOCK,
    CODEC_TERMS,
    SCALE_BYTES,
    SEED_BYTES,
    CodecTerms,
)
from starling.protocol.learning.rotated_blocks import (
    MANTISSA_BITS,
    SCALE_EXPONENT_MAX,
    SCALE_EXPONENT_MIN,
    VALUE_MAX,
    RotatedBlocks,
    quantised,
    restored,
)

Grid = NDArray[np.int64]
Draw = Callable[[int], bytes]
"""Draws that many bytes from a cryptographically secure source."""

SCALE_BITS = 24
VALUE_BITS = 62
MAGNITUDE_BITS = 38
EXPONENT_MIN = -24
EXPONENT_MAX = 7
_LEVEL_MAX = 127
_VALUE_MAX = (1 << MAGNITUDE_BITS) - 1
_TOGETHER = 1 << 16
"""Values that are worked on at once: what is in between takes some 50 bytes of each."""


@dataclass(frozen=True)
class GridVector:
    """Integers times a power of two.

    Attributes:
      values: (d,) int64, d at least 1, magnitudes below 2^62.
      exponent: From -62 to 7; the vector is `values * 2**exponent`.
    """

    values: Grid
    exponent: int

    def __post_init__(self) -> None:
        """Refuses what the codecs could only encode wrongly.

        Raises:
          NormExceeded: If a magnitude or the exponent is out of range.
        """
        # Not of absolute values: that of -2^63 is negative in int64.
        least, most = int(self.values.min()), int(self.values.max())
        if max(-least, most) >= 1 << VALUE_BITS:
            raise NormExceeded(f"a value reaches 2^{VALUE_BITS}")
        if not -VALUE_BITS <= self.exponent <= EXPONENT_MAX:
            raise NormExceeded(f"exponent {self.exponent} is out of range")


def to_grid(vector: NDArray[Any]) -> Grid:
    """Rounds real numbers to the grid of 2^-24, to nearest, ties to even.

    Args:
      vector: (d,) float32 or float64.

    Raises:
      NonFinite: If there is a NaN or an infinity.
      NormExceeded: If a magnitude reaches 2^14.
    """
    found = np.empty(vector.shape, np.int64)
    # Bounds are checked on the reals: what does not fit into int64 becomes its least
    # value on some machines and its greatest on others.
    limit = 2.0 ** (MAGNITUDE_BITS - SCALE_BITS)
    for part in _parts(vector.size):
        if not np.isfinite(vector[part]).all():
            raise NonFinite("vector holds a NaN or an infinity")
        wide = np.asarray(vector[part], np.float64)
        if (np.abs(wide) >= limit - 2.0 ** -(SCALE_BITS + 1)).any():
            raise NormExceeded(f"a coordinate reaches {limit:g}")
        found[part] = np.rint(wide * 2.0**SCALE_BITS)
    return found


def _parts(size: int) -> Iterator[slice]:
    """Cuts a vector so that working on it takes memory for a part alone."""
    return (slice(at, at + _TOGETHER) for at in range(0, size, _TOGETHER))


def from_grid(grid: Grid) -> NDArray[np.float32]:
    """The nearest float32 of every grid value: the same bytes on every machine."""
    found = np.empty(grid.shape, np.float32)
    for part in _parts(grid.size):
        found[part] = grid[part] * 2.0**-SCALE_BITS
    return found


def norm_squared(grid: Grid) -> int:
    """The exact squared norm, in units of 2^-48.

    Args:
      grid: (d,) int64, magnitudes below 2^38, d at most 2^26.
    """
    total = 0
    for part in _parts(grid.size):
        # Each product stays below 2^38, so that 2^20 of them stay inside int64.
        a, b = grid[part] >> 19, grid[part] & ((1 << 19) - 1)
        total += int(a @ a) << 38
        total += int(a @ b) << 20
        total += int(b @ b)
    return total


def encode_float32(vector: GridVector, draw: Draw) -> bytes:
    """The vector as little-endian float32; draws nothing."""
    del draw
    real = np.empty(vector.values.size, "<f4")
    for part in _parts(real.size):
        real[part] = vector.values[part] * 2.0**vector.exponent
    return real.tobytes()


def decode_float32(payload: bytes, dimension: int) -> Grid:
    """Reads (d,) float32 and rounds it to the grid.

    Raises:
      ShapeMismatch, NonFinite, NormExceeded: If it is no such vector.
    """
    if len(payload) != 4 * dimension:
        raise ShapeMismatch(f"{len(payload)} bytes for {dimension} float32")
    return to_grid(np.frombuffer(payload, "<f4"))


def encode_block8(vector: GridVector, draw: Draw) -> bytes:
    """Rounds to signed bytes with one exponent per block, unbiased.

    Each block takes the smallest exponent at which its largest magnitude fits into
    127 steps. A block beyond 127 * 2^7 saturates.

    Args:
      vector: (d,) integers with their exponent.
      draw: Secure random bytes; 8 per coordinate.

    Returns:
      ceil(d / 256) exponents as int8, then d levels as int8.

    Source:
      Stochastic rounding: Alistarh et al., NeurIPS 2017, arXiv:1610.02132, section 3.
    """
    exponents, levels = [], []
    for part in _parts(vector.values.size):
        values = vector.values[part]
        found, rows = _rounded_blocks(
            values, vector.exponent, draw, _LEVEL_MAX, (EXPONENT_MIN, EXPONENT_MAX)
        )
        exponents.append(found.astype(np.int8).tobytes())
        levels.append(rows.reshape(-1)[: values.size].astype(np.int8).tobytes())
    return b"".join((*exponents, *levels))


def _rounded_blocks(
    values: Grid, exponent: int, draw: Draw, most: int, allowed: tuple[int, int]
) -> tuple[Grid, Grid]:
    """Exponents of blocks within bounds (b,), and levels of at most `most` (b, 256)."""
    d = values.size
    padded = np.zeros(-(-d // BLOCK) * BLOCK, np.int64)
    padded[:d] = values
    rows = padded.reshape(-1, BLOCK)
    exponents = np.array(
        [_block_exponent(int(x), exponent, most, allowed) for x in np.abs(rows).max(1)],
        np.int64,
    )
    shift = (exponents - exponent)[:, None]
    # 0 <= shift <= 56, so that rows plus carry stay inside int64.
    noise = np.frombuffer(draw(8 * padded.size), "<i8").reshape(rows.shape)
    # A uniform carry below the step that is cut off: a value is rounded up with just
    # the chance that its remainder says.
    carry = noise & ((np.int64(1) << shift) - 1)
    return exponents, np.clip((rows + carry) >> shift, -most, most)


def _block_exponent(
    largest: int, exponent: int, most: int, allowed: tuple[int, int]
) -> int:
    """The smallest allowed E with largest * 2^exponent <= most * 2^E."""
    # In integers: a logarithm rounded down by a float would let a level pass 127.
    steps = max(0, (largest - 1) // most).bit_length()
    return min(max(exponent + steps, allowed[0]), allowed[1])


def decode_block8(payload: bytes, dimension: int) -> Grid:
    """Reads blocks of signed bytes; exact.

    Returns:
      (d,) int64 in units of 2^-24.

    Raises:
      ShapeMismatch: If the length does not fit `dimension`.
      DecodeError: If an exponent is out of range or a level is -128.
    """
    blocks = -(-dimension // BLOCK)
    if len(payload) != blocks + dimension:
        raise ShapeMismatch(f"{len(payload)} bytes for {dimension} levels")
    exponents = np.frombuffer(payload, np.int8, blocks)
    levels = np.frombuffer(payload, np.int8, dimension, blocks)
    if exponents.min() < EXPONENT_MIN or exponents.max() > EXPONENT_MAX:
        raise DecodeError("block exponent out of range")
    if levels.min() == -128:
        raise DecodeError("level -128 has a canonical twin")
    scale = np.int64(1) << (exponents.astype(np.int64) + SCALE_BITS)
    grid = np.zeros(blocks * BLOCK, np.int64)
    grid[:dimension] = levels
    grid.reshape(blocks, BLOCK)[...] *= scale[:, None]
    return grid[:dimension]


def encode_packed8(vector: GridVector, draw: Draw) -> bytes:
    """`encode_block8`, then Huffman-coded: about 11 % shorter, as noise is not uniform.

    The length depends on the levels, which the sealing does not hide: harmless after
    noise, and for a task without privacy a hint at the update's shape.

    Source:
      RFC 1951, without a header; no back references, since noise does not repeat.
    """
    coder = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9, zlib.Z_HUFFMAN_ONLY)
    return coder.compress(encode_block8(vector, draw)) + coder.flush()


def decode_packed8(payload: bytes, dimension: int) -> Grid:
    """Reads what `encode_packed8` wrote; stops at the length that d allows.

    Raises:
      ShapeMismatch: If another length comes out than d allows, or bytes are left over.
      DecodeError: If it is no deflated stream, or as for `decode_block8`.
    """
    expected = -(-dimension // BLOCK) + dimension
    decoder = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        # One byte more shows that a stream is too long, without the memory of a hostile
        # one.
        plain = decoder.decompress(payload, expected + 1)
    except zlib.error as error:
        raise DecodeError(f"not a deflated stream: {error}") from error
    if len(plain) != expected or not decoder.eof or decoder.unused_data:
        raise ShapeMismatch(f"not {expected} bytes and the end of the stream")
    return decode_block8(plain, dimension)


def encode_rotated(vector: GridVector, draw: Draw, terms: CodecTerms) -> bytes:
    """Rotates blocks and rounds them to a few bits, unbiased.

    Args:
      vector: (d,) integers with their exponent.
      draw: Secure random bytes: the rotation's 16, then for each 256 blocks 8 a padded
        coordinate and 4 a block.
      terms: Of the codec.

    Returns:
      The rotation's seed, ceil(d / 256) exponents as int8, as many mantissas as uint16,
      then the levels of whole blocks, several to a byte, lowest bits first.
    """

    def uniform(count: int) -> NDArray[np.float64]:
        return np.frombuffer(draw(4 * count), "<u4") * 2.0**-32

    seed, parts = draw(SEED_BYTES), []
    for part in _parts(vector.values.size):
        exponents, rows = _rounded_blocks(
            vector.values[part], vector.exponent, draw, VALUE_MAX, (-VALUE_BITS, 63)
        )
        exponents += SCALE_BITS
        found = quantised(rows, exponents, terms.bits, seed, uniform, _VALUE_MAX)
        scales = found.exponents.tobytes(), found.mantissas.astype("<u2").tobytes()
        parts.append((*scales, _packed(found.levels, terms.bits).tobytes()))
    return seed + b"".join(b"".join(column) for column in zip(*parts, strict=True))


def _packed(levels: NDArray[np.int32], bits: int) -> NDArray[np.uint8]:
    codes = (levels + (1 << bits) >> 1).astype(np.uint8).reshape(-1, 8 // bits)
    packed: NDArray[np.uint8] = np.bitwise_or.reduce(codes << _lanes(bits), axis=1)
    return packed


@cache
def _levels(bits: int) -> NDArray[np.int32]:
    """Levels in each of the 256 bytes that there are, (256, 8 / bits)."""
    codes = np.arange(256)[:, None] >> _lanes(bits) & ((1 << bits) - 1)
    return (2 * codes - ((1 << bits) - 1)).astype(np.int32)


def _lanes(bits: int) -> NDArray[np.uint8]:
    """By how much each level of a byte is shifted."""
    return np.arange(0, 8, bits, dtype=np.uint8)


def decode_rotated(payload: bytes, dimension: int, terms: CodecTerms) -> Grid:
    """Reads rotated blocks; the same integers on every machine.

    Returns:
      (d,) int64 in units of 2^-24.

    Raises:
      ShapeMismatch: If the length does not fit `dimension`.
      DecodeError: If a scale is out of range or has another spelling.
      NormExceeded: If a magnitude reaches 2^14.
    """
    if len(payload) != terms.payload_bytes_max(dimension):
        raise ShapeMismatch(f"{len(payload)} bytes for {dimension} levels")
    seed, count = payload[:SEED_BYTES], -(-dimension // BLOCK)
    exponents = np.frombuffer(payload, np.int8, count, SEED_BYTES)
    mantissas = np.frombuffer(payload, "<u2", count, SEED_BYTES + count)
    packed = np.frombuffer(payload, np.uint8, -1, SEED_BYTES + SCALE_BYTES * count)
    _check_scales(exponents, mantissas)
    grid = np.empty(dimension, np.int64)
    for part in _parts(dimension):
        rows = slice(part.start // BLOCK, part.stop // BLOCK)
        taken = slice(part.start * terms.bits // 8, part.stop * terms.bits // 8)
        blocks = RotatedBlocks(
            seed,
            exponents[rows],
            mantissas[rows],
            _levels(terms.bits)[packed[taken]].reshape(-1, BLOCK),
        )
        found = restored(blocks).reshape(-1)[: grid[part].size]
        if int(np.abs(found).max()) > _VALUE_MAX:
            raise NormExceeded(f"a coordinate reaches 2^{MAGNITUDE_BITS - SCALE_BITS}")
        grid[part] = found
    return grid


def _check_scales(exponents: NDArray[np.int8], mantissas: NDArray[np.uint16]) -> None:
    """Refuses scales out of range, and all but one spelling of each."""
    none = mantissas == 0
    full = mantissas >= 1 << (MANTISSA_BITS - 1)
    least = exponents == SCALE_EXPONENT_MIN
    inside = (exponents >= SCALE_EXPONENT_MIN) & (exponents <= SCALE_EXPONENT_MAX)
    if not (inside & (full | none & least)).all():
        raise DecodeError("a block's scale is out of range or not the shortest")


@dataclass(frozen=True)
class VectorCodec:
    """One way to put a vector on the wire; `CODEC_TERMS` has its name.

    Attributes:
      encode: From a vector, with secure random bytes for the rounding.
      decode: From bytes and d to the exact (d,) int64 in units of 2^-24.
    """

    encode: Callable[[GridVector, Draw], bytes]
    decode: Callable[[bytes, int], Grid]


def _rotated(terms: CodecTerms) -> VectorCodec:
    return VectorCodec(
        lambda vector, draw: encode_rotated(vector, draw, terms),
        lambda payload, dimension: decode_rotated(payload, dimension, terms),
    )


CODECS = {
    0: VectorCodec(encode_float32, decode_float32),
    1: VectorCodec(encode_block8, decode_block8),
    2: VectorCodec(encode_packed8, decode_packed8),
    **{number: _rotated(CODEC_TERMS[number]) for number in (3, 4, 5)},
}
"""By the number that stands on the wire."""
