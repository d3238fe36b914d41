"""All profiles that are shipped, read from the package's own TOML files."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from starling.board_profiles.board_profile import Profile
from starling.protocol.errors import ConfigError
from starling.protocol.schema.toml_settings import load_settings

GENERIC = "generic"
"""The profile of a board that nothing else fits."""


@cache
def catalog() -> Mapping[str, Profile]:
    """The profiles by name, in order of name.

    Raises:
      ConfigError: If a shipped file is malformed or two claim the same board.
    """
    profiles: dict[str, Profile] = {}
    claimed: set[str] = set()
    # importlib.resources would load a reader of zip files, which a board then keeps.
    for entry in sorted(Path(__file__).parent.glob("*.toml")):
        profile = load_settings(Profile, entry.read_text("utf-8"), entry.name)
        if entry.name != f"{profile.name}.toml" or claimed & set(profile.compatible):
            raise ConfigError("name or board belongs to another file", file=entry.name)
        claimed |= set(profile.compatible)
        profiles[profile.name] = profile
    return profiles
