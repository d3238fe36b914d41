"""Detection of a board's profile: by device tree, else by cores and memory."""

from collections.abc import Mapping
from dataclasses import replace

from starling.board_profiles.board_profile import Profile
from starling.board_profiles.catalog import GENERIC
from starling.protocol.errors import ConfigError

AUTO = "auto"
_TRAINER_MB_MIN = 96
_MEMORY_SHARE = 3
_THREADS_MAX = 4
_SMALL_MB = 1024


def choose(
    profiles: Mapping[str, Profile],
    wanted: str,
    compatible: str,
    cores: int,
    memory_mb: int,
) -> Profile:
    """The profile of a board.

    Args:
      profiles: From `catalog`.
      wanted: A profile's name, or "auto".
      compatible: The device tree's `compatible`, strings split by NUL; may be empty.
      cores: Processors that this process may use.
      memory_mb: Of the board.

    Raises:
      ConfigError: If there is no profile of the wanted name.
    """
    if wanted != AUTO:
        if wanted not in profiles:
            known = ", ".join((AUTO, *profiles))
            raise ConfigError(f"no board profile {wanted!r}; known: {known}")
        return profiles[wanted]
    strings = set(compatible.split("\0"))
    # The catalog lets no two profiles claim one string.
    for profile in profiles.values():
        if strings & set(profile.compatible):
            return profile
    return fitted(profiles[GENERIC], cores, memory_mb)


def fitted(generic: Profile, cores: int, memory_mb: int) -> Profile:
    """The generic profile, cut to what the board has.

    One core is left to everything else, and a third of the memory is the trainer's, but
    no less than the smallest models need.
    """
    threads = max(1, min(_THREADS_MAX, cores - 1))
    # The profile's own figure is the ceiling: a large machine is not the trainer's
    # alone.
    share_mb = min(generic.trainer_memory_mb, memory_mb // _MEMORY_SHARE)
    trainer_memory_mb = max(_TRAINER_MB_MIN, share_mb)
    small = memory_mb < _SMALL_MB
    return replace(
        generic,
        threads=threads,
        trainer_memory_mb=trainer_memory_mb,
        micro_batch=min(generic.micro_batch, 8) if small else generic.micro_batch,
    )
