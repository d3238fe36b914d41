"""`starling reproduce`: its bounds are those of a fleet, under their own names."""

import pytest

from starling.fleet.plan import VERSIONS_MAX
from starling.fleet.reproduce_cli import ROUNDS_MAX, parser


def test_rounds_are_as_many_as_a_fleet_may_have() -> None:
    assert ROUNDS_MAX == VERSIONS_MAX


@pytest.mark.parametrize("rounds", [["0"], ["100", "-3"], ["9" * 30]])
def test_rounds_out_of_bounds_are_a_usage_error(
    rounds: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(["ll-bcfl", "--rounds", *rounds])

    assert ended.value.code == 2
    assert "argument --rounds: " in capsys.readouterr().err
