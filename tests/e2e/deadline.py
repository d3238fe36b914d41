"""How long the end-to-end tests wait."""

DEADLINE_S = 180.0
"""For what happens within seconds unless the machine is very busy; then it fails."""
