"""Profiles of board types, and detection of the type of this board.

Public: `Profile`, `catalog`, `choose`, `fitted`.
"""

from starling.board_profiles.board_detection import choose, fitted
from starling.board_profiles.board_profile import Profile
from starling.board_profiles.catalog import catalog

__all__ = ["Profile", "catalog", "choose", "fitted"]
