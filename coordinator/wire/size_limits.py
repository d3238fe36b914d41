"""Sizes of a task's messages, and the limits of what can be sent.

A bundle and the parts of a model are pulled in chunks, by boards and by coordinators,
so that their length costs time and nobody's votes; what bounds them is that a whole has
so many chunks at most. An update's vector travels sealed, in one upload. What is longer
would be published, wait at one coordinator for ever, and reach nobody.
"""

from collections.abc import Iterable

from starling.coordinator.aggregation.strategy import PackedModel
from starling.coordinator.aggregation.strategy_registry import memory_words_max
from starling.coordinator.chain.gossip_messages import FrameSubject
from starling.coordinator.wire.frames import DIRECT_BYTES_MAX, GIVEN_MODEL
from starling.protocol.crypto.sealed_blob import (
    BLOB_BYTES_MAX,
    BOX_BYTES,
    RECIPIENTS_MAX,
)
from starling.protocol.errors import ConfigError
from starling.protocol.learning.codec_terms import CODEC_TERMS
from starling.protocol.learning.task import TaskSpec
from starling.protocol.wire.chunks import WHOLE_BYTES_MAX

_SEALING_BYTES = 256
_SIGNED_BYTES = 512


def upload_bytes_of(codec: int, dimension: int) -> int:
    """The longest sealed vector of a task, in bytes."""
    plain = CODEC_TERMS[codec].payload_bytes_max(dimension)
    return plain + RECIPIENTS_MAX * BOX_BYTES + _SEALING_BYTES


def answer_bytes_max(subject: FrameSubject, specs: Iterable[TaskSpec]) -> int:
    """The most that one answer, or its first piece, takes on the bus, in bytes."""
    if subject is FrameSubject.MODEL:
        return GIVEN_MODEL.bytes_max
    if subject in (FrameSubject.UPLOAD, FrameSubject.KEY):
        sizes = [upload_bytes_of(spec.codec, spec.dimension) for spec in specs]
        return min(DIRECT_BYTES_MAX, max(sizes, default=0) + _SIGNED_BYTES)
    return DIRECT_BYTES_MAX


def check_travels(spec: TaskSpec, bundle: bytes, model: PackedModel) -> None:
    """Refuses a task of which something cannot travel.

    Raises:
      ConfigError: Naming what it is, how long, and the limit.
    """
    sizes = {"bundle": len(bundle)}
    names = ("theta", "momentum", "average", "training model", "inference model")
    sizes |= {name: len(part) for name, part in zip(names, model.parts(), strict=True)}
    # The memory of some strategies grows with the first versions.
    sizes["momentum"] += 8 * memory_words_max(spec.aggregation, spec.dimension)
    for name, size in sizes.items():
        _check(name, size, "WHOLE_BYTES_MAX", WHOLE_BYTES_MAX)
    update = upload_bytes_of(spec.codec, spec.dimension)
    _check("sealed update", update, "BLOB_BYTES_MAX", BLOB_BYTES_MAX)


def _check(name: str, size: int, limit: str, most: int) -> None:
    if size > most:
        raise ConfigError(f"{name} of {size} bytes cannot travel: {limit} is {most}")
