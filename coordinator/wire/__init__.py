"""Frames between coordinators, and the limits of what boards and peers may send."""
