"""Note when a task ran in a file that all processes share, which costs next to nothing."""

import mmap
import os
import struct
import time
from functools import cache


@cache
def _slots() -> mmap.mmap:
    with open(os.environ["BENCH_STAMPS"], "r+b") as file:  # noqa: PTH123 - mmap wants its number
        return mmap.mmap(file.fileno(), 0)


def stamp(index: int) -> None:
    """Note that the task of this number runs now."""
    struct.pack_into("d", _slots(), 8 * index, time.time())
