"""What cannot travel is refused where it is published, with the limit's name."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from starling.coordinator.aggregation.strategy import PackedModel
from starling.coordinator.runtime import command_inbox
from starling.coordinator.wire import size_limits
from starling.coordinator.wire.size_limits import check_travels, upload_bytes_of
from starling.protocol.crypto.keys import OpeningKey
from starling.protocol.crypto.sealed_blob import ENTROPY_BYTES, seal
from starling.protocol.errors import ConfigError
from starling.protocol.learning.task import Strategy
from starling.protocol.learning.vector_codecs import CODECS, GridVector
from starling.protocol.model.training_bundle import BUNDLE_BYTES_MAX
from starling.protocol.wire.chunks import WHOLE_BYTES_MAX
from tests.unit.coordinator.fixtures.single_coordinator import MODEL, spec

OPENING = [OpeningKey(bytes([n + 1]) * 32).public for n in range(32)]


def test_small_task_travels() -> None:
    check_travels(spec(), b"bundle", MODEL)


@pytest.mark.parametrize("part", vars(MODEL))
def test_part_of_a_model_that_is_too_long_is_named(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(size_limits, "WHOLE_BYTES_MAX", 100)
    model = PackedModel(**{**vars(MODEL), part: bytes(101)})
    # Without staleness nothing is remembered behind the momentum.
    in_step = replace(spec().aggregation, staleness_q15=(1,))
    with pytest.raises(ConfigError, match="101 bytes cannot travel: WHOLE_BYTES_MAX"):
        check_travels(replace(spec(), aggregation=in_step), b"bundle", model)


def test_memory_that_will_grow_too_long_is_named() -> None:
    policy = replace(
        spec().aggregation, strategy=Strategy.PROJECTED, staleness_q15=(1,) * 21
    )
    check_travels(replace(spec(), dimension=1 << 20, aggregation=policy), b"", MODEL)

    longer = replace(spec(), dimension=1 << 21, aggregation=policy)
    with pytest.raises(ConfigError, match=r"momentum of .* WHOLE_BYTES_MAX"):
        check_travels(longer, b"", MODEL)


def test_bundle_that_is_too_long_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(size_limits, "WHOLE_BYTES_MAX", 200)
    with pytest.raises(ConfigError, match="bundle of 201 bytes cannot travel"):
        check_travels(spec(), bytes(201), MODEL)


@pytest.mark.parametrize(("codec", "most"), [(0, 16_776_000), (1, 66_000_000)])
def test_update_that_is_too_long_is_named(codec: int, most: int) -> None:
    check_travels(replace(spec(), dimension=most, codec=codec), b"bundle", MODEL)
    longer = replace(spec(), dimension=most + 200_000, codec=codec)
    with pytest.raises(ConfigError, match=r"sealed update of .* BLOB_BYTES_MAX"):
        check_travels(longer, b"bundle", MODEL)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("dimension", [1, 255, 256, 5000, 300_000])
def test_longest_update_is_no_longer_than_that(codec: int, dimension: int) -> None:
    rng = np.random.default_rng(dimension)
    values = rng.integers(-(1 << 30), 1 << 30, dimension)
    vector = GridVector(values, -24)
    plain = CODECS[codec].encode(vector, rng.bytes)
    blob, _ = seal(plain, OPENING, bytes(ENTROPY_BYTES), bytes(32))
    assert len(blob) <= upload_bytes_of(codec, dimension)


def test_limits_agree() -> None:
    assert BUNDLE_BYTES_MAX == WHOLE_BYTES_MAX


def test_blob_that_is_too_long_for_any_task_does_not_end_the_coordinator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_inbox, "WHOLE_BYTES_MAX", 10)
    command_inbox.drop_blob(tmp_path, bytes(11))
    command_inbox.drop_blob(tmp_path, bytes(10))
    kept: list[bytes] = []
    inbox = command_inbox.CommandInbox(tmp_path, lambda: 0.0)
    assert inbox.fresh(lambda content, _: kept.append(content)) == []
    assert kept == [bytes(10)]
    assert len(command_inbox.look(tmp_path).blobs) == 1
