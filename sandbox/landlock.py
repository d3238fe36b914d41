"""Landlock: which files a process may open, decided by itself and for good.

Everything that the kernel's version knows how to forbid is forbidden: to run, write,
make, remove, link, rename or truncate a file, to bind or connect TCP sockets, to reach
abstract Unix sockets, to signal processes outside. Reading is granted by file or
folder. Whether a path exists, and its size, can still be looked up.

Source: Linux, Documentation/userspace-api/landlock.rst, "Compatibility" and "Kernel
interface"; the numbers are those of include/uapi/linux/landlock.h.
"""

import ctypes
import errno
import os
import struct
from collections.abc import Iterable
from pathlib import Path

from starling.sandbox.syscalls import call

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION = 1
_PATH_BENEATH = 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
# By the ABI that brought them: 13 rights; to link over folders; to truncate; devices.
_FILE_RIGHTS = ((1, (1 << 13) - 1), (2, 1 << 13), (3, 1 << 14), (5, 1 << 15))
_NET_ABI, _TCP_BIND_AND_CONNECT = 4, 0b11
_SCOPE_ABI, _ABSTRACT_SOCKETS_AND_SIGNALS = 6, 0b11


def abi() -> int:
    """The kernel's version of Landlock; 0 where there is none, or it is not on."""
    try:
        return call(_CREATE_RULESET, 0, 0, _ASK_VERSION)
    except OSError as error:
        # Not built in; not switched on at boot; refused by the filter of a container.
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
            return 0
        raise


def restrict(readable: Iterable[Path]) -> int:
    """Leaves this thread, and those it starts, nothing but reading `readable`.

    Privileges must have been renounced before. Files that are open stay so. A rule
    holds for the file or folder that is there now, wherever a link leads; a path that
    does not exist is passed over.

    Returns:
      The ABI that holds; 0 where the kernel has none, and nothing is restricted.

    Raises:
      OSError: If the kernel has it and refuses.
    """
    version = abi()
    if version == 0:
        return 0
    ruleset = _ruleset(version)
    try:
        for path in readable:
            _allow_reading(ruleset, path)
        call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return version


def _ruleset(version: int) -> int:
    # Rights and fields that are newer than the kernel would be refused as a whole.
    files = sum(rights for since, rights in _FILE_RIGHTS if version >= since)
    fields = [files]
    if version >= _NET_ABI:
        fields.append(_TCP_BIND_AND_CONNECT)
    if version >= _SCOPE_ABI:
        fields.append(_ABSTRACT_SOCKETS_AND_SIGNALS)
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    return call(_CREATE_RULESET, ctypes.addressof(buffer), len(attributes), 0)


def _allow_reading(ruleset: int, path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    try:
        # For a plain file the kernel refuses the rights of a folder (EINVAL).
        rights = _READ_FILE | (_READ_DIR if path.is_dir() else 0)
        # The kernel's struct is packed: 12 bytes.
        rule = struct.pack("=Qi", rights, descriptor)
        buffer = ctypes.create_string_buffer(rule, len(rule))
        call(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.addressof(buffer), 0)
    finally:
        os.close(descriptor)
