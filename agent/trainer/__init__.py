"""The trainer's process and its client; the only place with numpy and data."""
