"""Arrays of an `.npz` file, whole or record after record; never a pickled object.

Source: NEP 1, "A simple file format for NumPy arrays", versions 1.0 and 2.0.
"""

import math
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from starling.records.errors import DataError

_SKIPPED_BYTES = 1 << 20
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class NpzArray:
    """An array of a file, read record after record.

    Attributes:
      count: Records: the first axis; 1 of a scalar.
      shape: Of one record.
      dtype: Of its values.
      bytes: Of one record.
    """

    def __init__(self, file: IO[bytes]) -> None:
        """Reads what stands before the values.

        Raises:
          ValueError: If it is no array, or one of objects.
        """
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"an array of version {version}")
        shape, is_fortran, self.dtype = _HEADERS[version](file)
        # Objects are pickles: to read one is to run what its writer put there.
        if self.dtype.hasobject:
            raise ValueError(
                "objects, which are not read: save numbers, or texts by .astype(str)"
            )
        self.is_scalar = not shape
        shape = shape or (1,)
        self.count, self.shape = shape[0], shape[1:]
        self.bytes = math.prod(self.shape) * self.dtype.itemsize
        self._file = file
        # With one value a record both orders are the same.
        self._is_apart = is_fortran and math.prod(self.shape) > 1
        self._gathered: NDArray[Any] | None = None

    def gather(self, rows: int) -> None:
        """Puts the first records together whose values stand apart in the file.

        Arrays in Fortran order are written so, as a table of pandas gives them.
        """
        if not self._is_apart:
            return
        item = self.dtype.itemsize
        found = np.empty((rows, math.prod(self.shape)), self.dtype)
        for place in range(found.shape[1]):
            content = self._file.read(rows * item)
            found[:, place] = np.frombuffer(content, self.dtype, rows)
            rest = (self.count - rows) * item
            while rest and (passed := len(self._file.read(min(rest, _SKIPPED_BYTES)))):
                rest -= passed
        axes = range(len(self.shape), 0, -1)
        turned = found.reshape(rows, *self.shape[::-1])
        self._gathered = turned.transpose(0, *axes)

    def next(self, rows: int) -> NDArray[Any]:
        """(rows, *shape), those after the last ones.

        Raises:
          ValueError: If the file ends before.
        """
        if self._gathered is not None:
            part, self._gathered = self._gathered[:rows], self._gathered[rows:]
            return part
        content = self._file.read(rows * self.bytes)
        return np.frombuffer(content, self.dtype).reshape(rows, *self.shape)

    def whole(self) -> NDArray[Any]:
        """All records, or the scalar; nothing may have been read yet."""
        self.gather(self.count)
        found = self.next(self.count)
        return found[0] if self.is_scalar else found


@contextmanager
def open_npz(
    content: IO[bytes], names: Sequence[str], file: str
) -> Iterator[dict[str, NpzArray]]:
    """The arrays of these names, until the context ends.

    Args:
      content: The file, open.
      names: All that are wanted, x and y among them.
      file: Its name, for messages.

    Raises:
      DataError: If one is not there.
      Exception: Of any kind, if it is no such file.
    """
    with zipfile.ZipFile(content) as archive, ExitStack() as stack:
        members = [name for name in archive.namelist() if name.endswith(".npy")]
        there = [name.removesuffix(".npy") for name in members]
        if not {"x", "y"} <= set(there):
            raise DataError(f"expected arrays x and y, found {there}", file=file)
        for name in names:
            if name not in there:
                detail = f"no such array; there are {there}"
                raise DataError(detail, file=file, column=name)
        yield {
            name: NpzArray(stack.enter_context(archive.open(f"{name}.npy")))
            for name in names
        }
