"""Tasks from `task.toml`: settings, local optimiser, and the privacy statement."""
