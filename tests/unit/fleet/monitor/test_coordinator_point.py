"""Coordinators by the names that geneses give them."""

import pytest

from starling.fleet.monitor.coordinator_point import number_of, validator_name


@pytest.mark.parametrize("name", [validator_name(12), "coordinator-12"])
def test_number_is_read_from_names_of_processes_and_of_containers(name: str) -> None:
    assert number_of(name) == 12


def test_name_without_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        number_of("meadow")
