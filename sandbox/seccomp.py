"""Seccomp: which system calls a process may make, decided by itself and for good.

A list of what is allowed, so that what nobody thought of is refused: memory, threads of
this process, reading files, what is open already, time. No sockets, no programs, no
processes, no signals to others, nothing that changes a file, a limit or a namespace.
Refused calls fail with EPERM; newer ones, which libraries try first and have a
replacement for, with ENOSYS.

Source: Linux, Documentation/userspace-api/seccomp_filter.rst; McCanne and Jacobson,
"The BSD Packet Filter", USENIX 1993 (the machine); call numbers from the kernel's
asm/unistd_64.h (x86-64) and asm-generic/unistd.h (aarch64).
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from starling.sandbox.syscalls import call

MACHINES = {"x86_64": 0, "aarch64": 1}
"""Column of `CALLS` by machine; on others there is no filter."""
_AUDIT_ARCH = (0xC000003E, 0xC00000B7)
_SECCOMP = (317, 277)
_SET_MODE_FILTER = 1
_ALL_THREADS = 1

_CLONE_THREAD = 0x10000
_CLONE_NEW = 0x7E020080
"""Every flag that asks for a new namespace."""
_OPEN_TO_CHANGE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True)
class OneOf:
    """Allows the call if an argument's low word is one of these."""

    argument: int
    values: tuple[int, ...]


@dataclass(frozen=True)
class BitMask:
    """Allows the call if an argument has all of `wanted` and none of `refused`."""

    argument: int
    refused: int
    wanted: int = 0


@dataclass(frozen=True)
class NullPointer:
    """Allows the call if a pointer is null."""

    argument: int


@dataclass(frozen=True)
class OwnProcess:
    """Allows the call if its first argument is this process."""


Rule = OneOf | BitMask | NullPointer | OwnProcess | None

CALLS: dict[str, tuple[int | None, int | None, Rule]] = {
    # Memory.
    "brk": (12, 214, None),
    "madvise": (28, 233, None),
    "membarrier": (324, 283, None),
    "mmap": (9, 222, None),
    "mprotect": (10, 226, None),
    "mremap": (25, 216, None),
    "munmap": (11, 215, None),
    # Threads of this process, and its end.
    "arch_prctl": (158, None, None),
    # `fork` is a clone that does not ask for a thread.
    "clone": (56, 220, BitMask(0, _CLONE_NEW, _CLONE_THREAD)),
    "exit": (60, 93, None),
    "exit_group": (231, 94, None),
    "futex": (202, 98, None),
    "getcpu": (309, 168, None),
    "restart_syscall": (219, 128, None),
    "rseq": (334, 293, None),
    "rt_sigaction": (13, 134, None),
    "rt_sigprocmask": (14, 135, None),
    "rt_sigreturn": (15, 139, None),
    "sched_getaffinity": (204, 123, None),
    "sched_yield": (24, 124, None),
    "set_robust_list": (273, 99, None),
    "set_tid_address": (218, 96, None),
    "sigaltstack": (131, 132, None),
    # PR_SET_NAME, PR_GET_NAME; PR_SET_VMA, by which libc names its memory.
    "prctl": (157, 167, OneOf(0, (15, 16, 0x53564D41))),
    # `abort` and `raise` signal the thread that calls them.
    "tgkill": (234, 131, OwnProcess()),
    # Who and where we are, and what we used.
    "getcwd": (79, 17, None),
    "getegid": (108, 177, None),
    "geteuid": (107, 175, None),
    "getgid": (104, 176, None),
    "getpid": (39, 172, None),
    "getppid": (110, 173, None),
    "getpriority": (140, 141, None),
    "getrandom": (318, 278, None),
    "getrlimit": (97, 163, None),
    "getrusage": (98, 165, None),
    "gettid": (186, 178, None),
    "getuid": (102, 174, None),
    # With new limits in its third argument it would set them.
    "prlimit64": (302, 261, NullPointer(2)),
    "sysinfo": (99, 179, None),
    "times": (100, 153, None),
    "uname": (63, 160, None),
    # Time.
    "clock_getres": (229, 114, None),
    "clock_gettime": (228, 113, None),
    "clock_nanosleep": (230, 115, None),
    "gettimeofday": (96, 169, None),
    "nanosleep": (35, 101, None),
    # Opening files to read them, where Landlock lets us.
    "access": (21, None, None),
    "faccessat": (269, 48, None),
    "faccessat2": (439, 439, None),
    "getdents64": (217, 61, None),
    "lstat": (6, None, None),
    "newfstatat": (262, 79, None),
    "open": (2, None, BitMask(1, _OPEN_TO_CHANGE)),
    "openat": (257, 56, BitMask(2, _OPEN_TO_CHANGE)),
    "readlink": (89, None, None),
    "readlinkat": (267, 78, None),
    "stat": (4, None, None),
    "statx": (332, 291, None),
    # What is open already.
    "close": (3, 57, None),
    "close_range": (436, 436, None),
    "dup": (32, 23, None),
    "dup2": (33, None, None),
    "dup3": (292, 24, None),
    "fadvise64": (221, 223, None),
    # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC; no owner, no lease.
    "fcntl": (72, 25, OneOf(1, (0, 1, 2, 3, 1030))),
    "fstat": (5, 80, None),
    # TCGETS, TIOCGWINSZ, FIONCLEX, FIOCLEX.
    "ioctl": (16, 29, OneOf(1, (0x5401, 0x5413, 0x5450, 0x5451))),
    "lseek": (8, 62, None),
    "poll": (7, None, None),
    "ppoll": (271, 73, None),
    "pread64": (17, 67, None),
    "preadv": (295, 69, None),
    "read": (0, 63, None),
    "readv": (19, 65, None),
    "write": (1, 64, None),
    "writev": (20, 66, None),
}
"""What is allowed: number on x86-64, number on aarch64, and under which condition."""
_CLONE3 = 435
_NEWEST = 439
"""Calls above it did not exist when this list was made."""

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_REFUSE, _UNKNOWN = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16
Step = tuple[int, int, int, int]
"""Operation, jump if true, jump if false, constant."""


def program(machine: str, pid: int) -> tuple[Step, ...]:
    """The filter, as steps of the packet filter's machine.

    Args:
      machine: A key of `MACHINES`.
      pid: The process that it is for.
    """
    column = MACHINES[machine]
    steps: list[Step] = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, _AUDIT_ARCH[column]),
        # Under another architecture the numbers mean other calls, and no entry below
        # fits.
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
        # The numbers of x86's 32-bit pointers begin far above, too.
        (_AT_LEAST, 0, 1, _NEWEST + 1),
        (_RETURN, 0, 0, _UNKNOWN),
        # Its flags are in memory, where no filter sees them; libc goes on with clone.
        (_EQUAL, 0, 1, _CLONE3),
        (_RETURN, 0, 0, _UNKNOWN),
    ]
    for name in sorted(CALLS):
        on_x86, on_arm, rule = CALLS[name]
        number = (on_x86, on_arm)[column]
        if number is not None:
            block = tuple(_block(rule, pid))
            steps += [(_EQUAL, 0, len(block), number), *block]
    return (*steps, (_RETURN, 0, 0, _REFUSE))


def _block(rule: Rule, pid: int) -> Iterator[Step]:
    """Instructions for the number of this call; they end in a return on every way."""
    match rule:
        case OneOf(argument, values):
            yield (_LOAD, 0, 0, _low(argument))
            for place, value in enumerate(values):
                # Over the comparisons that are left, and the refusal. The low word is
                # enough: the kernel takes these arguments as 32 bits, too.
                yield (_EQUAL, len(values) - place, 0, value)
            yield (_RETURN, 0, 0, _REFUSE)
        case OwnProcess():
            yield from _block(OneOf(0, (pid,)), pid)
            return
        case BitMask(argument, refused, wanted):
            yield (_LOAD, 0, 0, _low(argument))
            # The jump asks for any common bit, so that wanted bits are asked for one by
            # one.
            yield (_ANY_BIT, 0, 1, refused)
            yield (_RETURN, 0, 0, _REFUSE)
            for bit in (1 << place for place in range(32)):
                if wanted & bit:
                    yield (_ANY_BIT, 1, 0, bit)
                    yield (_RETURN, 0, 0, _REFUSE)
        case NullPointer(argument):
            for half in (0, 4):
                yield (_LOAD, 0, 0, _low(argument) + half)
                yield (_EQUAL, 1, 0, 0)
                yield (_RETURN, 0, 0, _REFUSE)
        case None:
            pass
    yield (_RETURN, 0, 0, _ALLOW)


def _low(argument: int) -> int:
    """Offset of an argument's low word; both machines are little-endian."""
    return _ARGUMENTS + 8 * argument


def restrict() -> bool:
    """Filters the system calls of every thread of this process.

    Privileges must have been renounced before.

    Returns:
      Whether it holds: False where the kernel or the machine has no filter.

    Raises:
      OSError: If the kernel has it and refuses.
    """
    machine = platform.machine()
    if machine not in MACHINES:
        return False
    steps = program(machine, os.getpid())
    code = b"".join(struct.pack("=HBBI", *step) for step in steps)
    buffer = ctypes.create_string_buffer(code, len(code))
    # `struct sock_fprog`, with the padding of this machine.
    whole = struct.pack("@HP", len(steps), ctypes.addressof(buffer))
    header = ctypes.create_string_buffer(whole, len(whole))
    number = _SECCOMP[MACHINES[machine]]
    try:
        stuck = call(number, _SET_MODE_FILTER, _ALL_THREADS, ctypes.addressof(header))
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EINVAL):
            return False
        raise
    # For all threads at once, the answer may be the one that could not follow:
    # seccomp(2).
    if stuck:
        raise OSError(errno.EBUSY, f"thread {stuck} has a filter of its own")
    return True
