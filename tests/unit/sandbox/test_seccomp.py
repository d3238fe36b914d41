"""The filter's program, run by a slow twin of the kernel's machine for every call."""

import errno
import os
import re
from pathlib import Path

import pytest

from starling.sandbox.seccomp import CALLS, MACHINES, program

PID = 4321
ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOWED = "allowed"
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
NUMBERS = range(480)
CLONE_THREAD = 0x3D0F00


def verdict(machine: str, number: int, *arguments: int, arch: int | None = None) -> str:
    """What the filter says of one call."""
    words = {0: number, 4: ARCH[machine] if arch is None else arch}
    for place in range(6):
        value = arguments[place] if place < len(arguments) else 0
        words[16 + 8 * place] = value & 0xFFFFFFFF
        words[20 + 8 * place] = value >> 32
    steps, place, value = program(machine, PID), 0, 0
    while True:
        operation, if_true, if_false, constant = steps[place]
        place += 1
        match operation:
            case 0x20:
                value = words[constant]
            case 0x15:
                place += if_true if value == constant else if_false
            case 0x35:
                place += if_true if value >= constant else if_false
            case 0x45:
                place += if_true if value & constant else if_false
            case 0x06:
                return said(constant)
            case _:
                raise AssertionError(operation)


def said(constant: int) -> str:
    if constant == 0x7FFF0000:
        return ALLOWED
    if constant == 0x80000000:
        return "killed"
    assert constant >> 16 == 5
    return errno.errorcode[constant & 0xFFFF]


def numbers(machine: str) -> dict[str, int]:
    column = MACHINES[machine]
    found = {name: (row[0], row[1])[column] for name, row in CALLS.items()}
    return {name: number for name, number in found.items() if number is not None}


@pytest.mark.parametrize("machine", MACHINES)
def test_filter_refuses_every_call_that_is_not_listed(machine: str) -> None:
    listed = set(numbers(machine).values())

    for number in NUMBERS:
        found = verdict(machine, number)
        if number == 435 or number > 439:
            assert found == "ENOSYS"
        elif number not in listed:
            assert found == "EPERM"


@pytest.mark.parametrize("machine", MACHINES)
def test_filter_allows_every_listed_call_without_a_condition(machine: str) -> None:
    for name, number in numbers(machine).items():
        if CALLS[name][2] is None:
            assert verdict(machine, number, 2**64 - 1) == ALLOWED


@pytest.mark.parametrize(
    ("name", "arguments", "is_allowed"),
    [
        ("openat", (0, 0, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY), True),
        ("openat", (0, 0, os.O_WRONLY), False),
        ("openat", (0, 0, os.O_RDWR), False),
        ("openat", (0, 0, os.O_CREAT), False),
        ("openat", (0, 0, os.O_TRUNC), False),
        ("openat", (0, 0, os.O_TMPFILE | os.O_RDWR), False),
        ("openat", (0, 0, os.O_WRONLY | 1 << 40), False),
        ("clone", (CLONE_THREAD,), True),
        ("clone", (17,), False),
        ("clone", (CLONE_THREAD | 0x10000000,), False),
        ("clone", (CLONE_THREAD | 0x40000000,), False),
        ("clone", (CLONE_THREAD | 0x80,), False),
        ("tgkill", (PID, 5, 6), True),
        ("tgkill", (PID + 1, 5, 6), False),
        ("tgkill", (0,), False),
        ("prctl", (15,), True),
        ("prctl", (0x53564D41,), True),
        ("prctl", (4, 1), False),
        ("prctl", (1, 0), False),
        ("prctl", (22,), False),
        ("prlimit64", (0, 7, 0), True),
        ("prlimit64", (0, 7, 1), False),
        ("prlimit64", (0, 7, 1 << 32), False),
        ("fcntl", (3, 3), True),
        ("fcntl", (3, 1030), True),
        ("fcntl", (3, 8), False),
        ("ioctl", (3, 0x5401), True),
        ("ioctl", (3, 0x5412), False),
    ],
)
@pytest.mark.parametrize("machine", MACHINES)
def test_filter_looks_at_arguments(
    machine: str, name: str, arguments: tuple[int, ...], is_allowed: bool
) -> None:
    found = verdict(machine, numbers(machine)[name], *arguments)

    assert found == (ALLOWED if is_allowed else "EPERM")


@pytest.mark.parametrize("machine", MACHINES)
def test_filter_kills_calls_of_another_machine(machine: str) -> None:
    assert verdict(machine, 0, arch=0x40000003) == "killed"


def test_filter_knows_no_calls_with_32_bit_pointers() -> None:
    for number in NUMBERS:
        assert verdict("x86_64", number | 0x40000000) == "ENOSYS"


@pytest.mark.parametrize("machine", MACHINES)
def test_no_number_is_listed_twice(machine: str) -> None:
    listed = list(numbers(machine).values())

    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("machine", MACHINES)
def test_numbers_are_the_kernels(machine: str) -> None:
    if not HEADERS[machine].exists():
        pytest.skip("the kernel's headers are not installed")
    text = HEADERS[machine].read_text()
    # The generic header marks calls whose file offsets have two widths.
    kernels = dict(re.findall(r"#define __NR(?:_|3264_)(\w+)\s+(\d+)", text))
    if machine == "aarch64":
        kernels["newfstatat"] = kernels["fstatat"]

    assert numbers(machine) == {name: int(kernels[name]) for name in numbers(machine)}
