"""What each kind of board can do, and how to tell which one this is.

Public: `Profile`, `catalog`, `choose`, `fitted`.
"""

from firmware_profiles.catalog import catalog
from firmware_profiles.detect import choose, fitted
from firmware_profiles.schema import Profile

__all__ = ["Profile", "catalog", "choose", "fitted"]
