"""A trace tells which boards were left out, those that it names or others."""

import pytest

from starling.coordinator.lineage.contribution_evidence import Measure
from starling.coordinator.lineage.suspects import BoardEvidence
from starling.coordinator.lineage.trace_report import document, lines
from starling.coordinator.lineage.version_trace import VersionLoss, VersionTrace
from starling.protocol.ids import DeviceId, Version, device_name
from tests.unit.coordinator.lineage.lineages import board

SUSPECT, OTHER = board(0), board(1)


def _trace(
    without: tuple[DeviceId, ...], suspects: tuple[DeviceId, ...] = (SUSPECT,)
) -> VersionTrace:
    boards = [
        BoardEvidence(
            each,
            3,
            {Measure.HARM: 5.0},
            {Measure.HARM: 4.0},
            0,
            (),
            (Measure.HARM,) if each in suspects else (),
        )
        for each in (SUSPECT, OTHER)
    ]
    return VersionTrace(
        first=Version(0),
        last=Version(3),
        updates=6,
        boards=tuple(boards),
        evidence=(),
        as_it_is=VersionLoss((), {Measure.HARM: 0.75}),
        alone=(),
        together=VersionLoss(without, {Measure.HARM: 0.5}) if without else None,
    )


@pytest.mark.parametrize(
    ("without", "suspects", "said"),
    [
        ((SUSPECT,), (SUSPECT,), "the boards below"),
        ((OTHER,), (SUSPECT,), device_name(OTHER)),
        ((OTHER,), (), device_name(OTHER)),
        (
            (OTHER, SUSPECT),
            (SUSPECT,),
            f"{device_name(OTHER)}, {device_name(SUSPECT)}",
        ),
    ],
    ids=["suspects", "another", "nobody suspected", "one more"],
)
def test_loss_is_told_with_the_boards_that_it_is_without(
    without: tuple[DeviceId, ...], suspects: tuple[DeviceId, ...], said: str
) -> None:
    trace = _trace(without, suspects)

    told = lines(trace, 0)[1]

    assert told == (
        f"version 3 loses 0.7500 on held-out examples; without {said} 0.5000"
    )
    assert document(trace)["without"] == [device_name(each) for each in without]


def test_trace_without_suspects_leaves_nobody_out() -> None:
    trace = _trace((), ())

    assert lines(trace, 0)[1:] == [
        "version 3 loses 0.7500 on held-out examples",
        "nothing speaks against any of 2 boards",
    ]
    assert document(trace)["without"] == []
