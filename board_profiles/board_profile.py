"""The form of a board profile: one TOML file per board, every key checked."""

from dataclasses import dataclass

from starling.protocol.schema.toml_settings import setting


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Share of a board's resources that training may use.

    Attributes: see each key's text; `sample` of `protocol.schema.toml_settings` prints
      them.
    """

    name: str = setting(..., 'Short name, as in `board = "rpi4"`.')
    title: str = setting(..., "What people call the board.")
    compatible: tuple[str, ...] = setting(
        (), "Device-tree strings, any of which identifies the board."
    )
    threads: int = setting(..., "Threads of the training engine.", least=1, most=64)
    micro_batch: int = setting(
        ...,
        "Records that are computed together; bounds the trainer's memory.",
        least=1,
        most=64,
    )
    trainer_memory_mb: int = setting(
        ..., "Private memory of the trainer in MiB.", least=64, most=1 << 20
    )
    spool_mb: int = setting(
        ..., "Room for updates that wait for their proof, in MiB.", least=1, most=4096
    )
    bundle_mb: int = setting(
        ..., "Largest training bundle that is fetched, in MiB.", least=1, most=256
    )
    niceness: int = setting(
        10, "Added to the trainer's priority; 19 is the most modest.", least=0, most=19
    )
    resources_ppm: int = setting(
        ...,
        "Self-assessment of the board in check-ins, in millionths of the best board.",
        least=0,
        most=10**6,
    )
