"""Memory that a process no longer needs, given back to the system."""

import ctypes


def return_memory() -> None:
    """Gives back what is free; a C library without this call keeps it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
