"""Read what a backlog costs while it is worked off: time, and the processors' time."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.processes import Process
from benchmarks.servers import Server
from benchmarks.stamps import Stamps

LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class Taken:
    """Tasks a second, and the microseconds of a processor's time that each took."""

    rate: float
    worker: float
    database: float


class Meter:
    """Reads how busy the processes are that make stamps, and the database."""

    def __init__(self, stamps: Stamps, database: Server) -> None:
        self._stamps = stamps
        self._database = database

    def watch(
        self,
        workers: Sequence[Process],
        rate: Callable[[], float],
        within: float = 900,
    ) -> Taken:
        """Wait until all tasks ran, and return what those after a tenth of them took.

        `rate` is asked for the tasks a second when all have run.
        """
        deadline = time.monotonic() + within
        number = self._stamps.number

        began = self._wait(workers, number // 10, deadline)
        before = self._used(workers)
        ended = self._wait(workers, number, deadline)
        used = self._used(workers)

        # Those that had run already when a tenth had are not in what was used since.
        each = 1e6 / max(ended - began, 1)
        worker, database = (
            each * (now - then) for then, now in zip(before, used, strict=True)
        )
        return Taken(rate(), worker, database)

    def _wait(self, workers: Sequence[Process], number: int, deadline: float) -> int:
        """Wait until so many tasks ran, and return how many did."""
        while (count := self._stamps.count()) < number:
            for worker in workers:
                worker.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"only {count} of {number} tasks have run")
            time.sleep(LOOK_SECONDS)
        return count

    def _used(self, workers: Sequence[Process]) -> tuple[float, float]:
        busy = sum(worker.processor_seconds() for worker in workers)
        return busy, self._database.processor_seconds()
