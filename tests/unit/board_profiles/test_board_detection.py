"""Board profiles: the shipped ones are sound, and each board finds its own."""

import pytest

from starling.board_profiles import Profile, catalog, choose, fitted
from starling.protocol.errors import ConfigError

NAMES = ("generic", "rpi3", "rpi4", "rpi5", "simulated", "zero2w")


def test_catalog_holds_the_shipped_boards() -> None:
    assert tuple(catalog()) == NAMES


@pytest.mark.parametrize(
    ("compatible", "wanted"),
    [
        ("raspberrypi,4-model-b\0brcm,bcm2711", "rpi4"),
        ("raspberrypi,5-model-b\0brcm,bcm2712", "rpi5"),
        ("raspberrypi,model-zero-2-w\0brcm,bcm2837", "zero2w"),
        ("raspberrypi,3-model-b-plus\0brcm,bcm2837", "rpi3"),
        ("acme,toaster", "generic"),
        ("", "generic"),
        ("raspberrypi,4-model-b-imitation", "generic"),
    ],
)
def test_board_is_told_by_its_device_tree(compatible: str, wanted: str) -> None:
    found = choose(catalog(), "auto", compatible, 4, 4096)

    assert found.name == wanted


def test_named_profile_wins_over_the_device_tree() -> None:
    assert choose(catalog(), "rpi3", "raspberrypi,5-model-b", 4, 8192).name == "rpi3"


def test_unknown_profile_is_an_error_that_lists_all() -> None:
    with pytest.raises(ConfigError, match=r"rpi6.*auto, generic, rpi3"):
        choose(catalog(), "rpi6", "", 4, 4096)


@pytest.mark.parametrize(
    ("cores", "memory_mb", "threads", "micro_batch", "trainer_mb"),
    [
        (1, 512, 1, 8, 170),
        (2, 512, 1, 8, 170),
        (4, 4096, 3, 32, 1024),
        (64, 65536, 4, 32, 1024),
        (1, 64, 1, 8, 96),
    ],
)
def test_generic_board_is_cut_to_its_cores_and_memory(
    cores: int, memory_mb: int, threads: int, micro_batch: int, trainer_mb: int
) -> None:
    found: Profile = fitted(catalog()["generic"], cores, memory_mb)

    assert (found.threads, found.micro_batch, found.trainer_memory_mb) == (
        threads,
        micro_batch,
        trainer_mb,
    )
