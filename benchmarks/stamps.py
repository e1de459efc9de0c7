"""Read the file in which tasks note when they ran by `inside/stamps.py`."""

import struct
from array import array
from collections.abc import Callable
from pathlib import Path

from generator.services import eventually


class Stamps:
    """So many slots for so many tasks."""

    def __init__(self, path: Path, number: int) -> None:
        self.path = path
        self.number = number
        self.clear()

    @property
    def settings(self) -> dict[str, str]:
        """What tells the tasks where the file is."""
        return {"BENCH_STAMPS": str(self.path)}

    def clear(self) -> None:
        """Forget all; the file stays the same, since processes hold it."""
        with self.path.open("r+b" if self.path.exists() else "w+b") as file:
            file.write(bytes(8 * self.number))

    def read(self) -> list[float]:
        """Return when each task ran, 0 where it has not."""
        return list(struct.unpack(f"{self.number}d", self.path.read_bytes()))

    def count(self) -> int:
        """Return how many tasks ran."""
        return self.number - array("d", self.path.read_bytes()).count(0)

    def wait_for(self, index: int) -> None:
        """Wait until one task ran."""
        eventually(lambda: self.read()[index], f"task {index} has run")

    def wait(self, check: Callable[[], object], within: float = 300) -> list[float]:
        """Wait until all tasks ran, and return when, in order."""

        def look() -> list[float]:
            check()
            times = self.read()
            return times if all(times) else []

        return sorted(eventually(look, "every task has run", within=within))


def rate(times: list[float]) -> float:
    """Return the tasks that ended a second, after a tenth that warmed up the worker."""
    start = len(times) // 10
    return (len(times) - 1 - start) / (times[-1] - times[start])
