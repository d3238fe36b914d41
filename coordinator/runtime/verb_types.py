"""Types of an operator's verbs: a function of a home and options, and its result."""

import argparse
from collections.abc import Callable
from typing import Any

from starling.coordinator.runtime.home import CoordinatorHome

Shown = tuple[dict[str, Any], str]
"""What a verb prints: as JSON, and for people."""
Run = Callable[[CoordinatorHome, argparse.Namespace], Shown]
AddVerb = Callable[[str, Run, str], argparse.ArgumentParser]
