"""Tasks that make sense are taken; the ones that would stall or leak are not."""

from dataclasses import replace
from itertools import pairwise

import pytest

from starling.protocol.errors import DecodeError, ProtocolError
from starling.protocol.ids import Digest
from starling.protocol.learning.task import (
    PLEDGE_MAX,
    Q15,
    TASK,
    AggregationPolicy,
    PrivacyPolicy,
    geometric_pledges,
    staleness_table,
    version_digest,
)
from tests.vectors.protocol_samples import MODEL, SPEC

PRIVATE = SPEC.privacy


@pytest.mark.parametrize(
    "field", ["clip_q24", "sigma_micro", "epsilon_micro", "delta_e12"]
)
def test_privacy_that_protects_nothing_refuses(field: str) -> None:
    with pytest.raises(DecodeError, match="a mechanism needs"):
        replace(PRIVATE, **{field: 0})


def test_privacy_without_a_mechanism_needs_nothing() -> None:
    spec = replace(SPEC, privacy=PrivacyPolicy(0, 0, 0, 0, 0, 1))

    assert TASK.unpack(TASK.pack(spec)) == spec


def aggregation(**changes: object) -> AggregationPolicy:
    return replace(SPEC.aggregation, **changes)  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize(
    "policy",
    [
        aggregation(buffer=0),
        aggregation(staleness_q15=()),
        aggregation(staleness_q15=(Q15, 0)),
        aggregation(staleness_q15=(Q15 + 1,)),
        aggregation(staleness_q15=(Q15,) * 65),
        aggregation(momentum_q16=1 << 16),
        aggregation(average_q16=1 << 16),
        aggregation(patience=0),
        aggregation(norm_max=0),
        aggregation(strategy=200),
    ],
    ids=[
        "no buffer",
        "no staleness",
        "weightless staleness",
        "overweight",
        "staleness too long",
        "momentum of one",
        "average of one",
        "no patience",
        "no norm",
        "unknown strategy",
    ],
)
def test_task_with_an_impossible_aggregation_refuses(policy: AggregationPolicy) -> None:
    with pytest.raises(ProtocolError, match="AggregationPolicy"):
        TASK.pack(replace(SPEC, aggregation=policy))


def test_task_with_fewer_leases_than_its_buffer_refuses() -> None:
    with pytest.raises(DecodeError, match="never fills"):
        replace(SPEC, aggregation=aggregation(buffer=31, leases=30))


@pytest.mark.parametrize("pledges", [(2, 1), (1, 1)], ids=["falling", "repeated"])
def test_task_with_pledges_that_do_not_rise_refuses(pledges: tuple[int, ...]) -> None:
    with pytest.raises(DecodeError, match="rise"):
        replace(SPEC, pledges=pledges)


@pytest.mark.parametrize(
    ("examples", "pledge"), [(0, 0), (15, 0), (16, 16), (23, 16), (24, 24), (25, 24)]
)
def test_pledge_is_the_largest_that_the_examples_cover(
    examples: int, pledge: int
) -> None:
    assert SPEC.pledges[:2] == (16, 24)
    assert SPEC.pledge_for(examples) == pledge


@pytest.mark.parametrize("ratio", [1.1, 1.5, 2.0])
def test_pledges_rise_by_at_most_the_ratio_up_to_the_limit(ratio: float) -> None:
    sizes = geometric_pledges(16, ratio)

    assert sizes[0] == 16
    assert sizes[-1] * ratio > PLEDGE_MAX >= sizes[-1]
    assert len(sizes) <= 256
    assert all(low < high <= max(low + 1, low * ratio) for low, high in pairwise(sizes))


def test_staleness_table_is_the_square_root_at_one_half() -> None:
    table = staleness_table(0.5, 3)

    assert table == (32768, 23170, 18919, 16384)


def test_staleness_table_counts_what_is_later_than_four_versions_twice() -> None:
    table = staleness_table(1.0, 10)

    assert [round(Q15 / weight) for weight in table] == [
        *[1, 2, 3, 4, 5],
        *[7, 9, 11, 13, 15, 17],
    ]


def test_staleness_table_never_weighs_nothing() -> None:
    table = staleness_table(9.0, 63)

    assert min(table) == 1
    assert table[0] == Q15


def test_version_digest_depends_on_every_part() -> None:
    parts = ("theta", "momentum", "average", "training", "inference")
    altered = {
        version_digest(replace(MODEL, **{part: Digest(bytes(32))})) for part in parts
    }

    assert len(altered | {version_digest(MODEL)}) == 6
