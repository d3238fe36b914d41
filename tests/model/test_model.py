"""The model of consensus holds where it must, and finds what is planted in it."""

import pytest

from tests.model.check import CASES, Case, check, missing

pytestmark = pytest.mark.skipif(
    bool(missing()), reason="needs spin and gcc (apt install spin gcc)"
)


@pytest.mark.parametrize("case", [c for c in CASES if c.quick], ids=lambda c: c.name)
def test_case_comes_out_as_it_must(case: Case) -> None:
    assert check(case).holds is case.holds


@pytest.mark.soak
@pytest.mark.parametrize(
    "case", [c for c in CASES if not c.quick], ids=lambda c: c.name
)
def test_long_case_comes_out_as_it_must(case: Case) -> None:
    assert check(case).holds is case.holds
