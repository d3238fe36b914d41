"""Calls to the kernel that Python has no function for."""

import ctypes
import os
import resource

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38


def call(number: int, *arguments: int) -> int:
    """One system call, by its number; every argument goes over as a whole word.

    Raises:
      OSError: As the kernel says.
    """
    words = [ctypes.c_long(argument) for argument in arguments]
    result: int = _LIBC.syscall(ctypes.c_long(number), *words)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def control(option: int, argument: int) -> None:
    """One `prctl` with one argument.

    Raises:
      OSError: As the kernel says.
    """
    words = [ctypes.c_ulong(argument), *(3 * [ctypes.c_ulong(0)])]
    if _LIBC.prctl(ctypes.c_int(option), *words) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def hide_memory() -> None:
    """Makes this process's memory nobody's: no core dump, no debugger of the same user.

    For every process that holds a key or raw data. A child that is started anew has to
    call it again.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # The limit alone would not do: it does not hold where cores go into a pipe
    # (core(5)).
    control(_PR_SET_DUMPABLE, 0)


def renounce_privileges() -> None:
    """No program that this process starts may gain rights; cannot be undone."""
    control(_PR_SET_NO_NEW_PRIVS, 1)
