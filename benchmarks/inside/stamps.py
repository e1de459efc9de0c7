"""Note when tasks ran in a file that processes share, which costs next to nothing."""

import mmap
import os
import struct
import time
from functools import cache


@cache
def _slots() -> mmap.mmap:
    # mmap wants the file's number.
    with open(os.environ["BENCH_STAMPS"], "r+b") as file:  # noqa: PTH123
        return mmap.mmap(file.fileno(), 0)


def stamp(index: int) -> None:
    """Note that the task of this number runs now."""
    struct.pack_into("d", _slots(), 8 * index, time.time())
