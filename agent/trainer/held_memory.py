"""Memory that is kept from a model until the data set is read, and what was used."""

import mmap
import resource


class HeldMemory:
    """Bytes set aside from all that is done before the data set is read.

    So what a graph takes cannot decide what is left for the data. The pages are never
    touched: they count against the limit and cost nothing.
    """

    def __init__(self) -> None:
        """Nothing is set aside."""
        self._kept: list[mmap.mmap] = []

    def set_aside(self, count: int) -> None:
        """Sets aside so many bytes more.

        Raises:
          MemoryError: If there are not as many.
        """
        if not count:
            return
        try:
            # RLIMIT_DATA counts private writable mappings, touched or not.
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
            self._kept.append(mmap.mmap(-1, count, flags))
        except OSError as error:
            raise MemoryError from error

    def give_back(self) -> None:
        """Lets the data set have all of it."""
        for kept in self._kept:
            kept.close()
        self._kept.clear()


def usage() -> str:
    """Processor time and memory that this process has taken, in words."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = used.ru_utime + used.ru_stime
    return f"{seconds:.2f} s of processor, {used.ru_maxrss >> 10} MiB"
