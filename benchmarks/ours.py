"""Run a project's own processes, and let them work off what waits."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from benchmarks.lab import Lab, Project
from benchmarks.ledger import Size, fill
from benchmarks.meter import Meter, Taken
from benchmarks.processes import Failed, Process
from benchmarks.stamps import Stamps, rate
from generator.services import eventually

WARM_UP = 64


class Ours:
    """A variant's worker, and its relay if it has a broker, on PostgreSQL."""

    def __init__(self, lab: Lab, project: Project, stamps: Stamps, number: int) -> None:
        self._lab = lab
        self._project = project
        self._stamps = stamps
        self._number = number
        self._processes: list[Process] = []
        self.url = lab.database(project)
        self.settings = lab.settings(project, self.url) | stamps.settings

        # The worker declares the queues.
        with self.running(*project.workers):
            self._warm_up()

    @contextmanager
    def running(self, *kinds: str) -> Iterator[Sequence[Process]]:
        """Run processes of the Procfile meanwhile."""
        started = len(self._processes)
        try:
            for kind in kinds:
                self._processes.append(self._project.start(kind, **self.settings))
            yield self._processes[started:]
        finally:
            for process in self._processes[started:]:
                process.stop()
            del self._processes[started:]

    def backlog(self, processes: int = 1) -> Taken:
        """Let so many workers run what waits: in the broker, or in the database."""
        if self._project.variant.has_broker:
            return self._from_the_broker()
        return self._from_the_database(processes)

    def _from_the_broker(self) -> Taken:
        self.clear()
        with self.running("relay"):
            self._project.measure("enqueue", self._number, **self.settings)
            self.wait_until_published()
            with self.running("worker") as workers:
                return self._watch(workers)

    def _from_the_database(self, processes: int) -> Taken:
        with self.running(*["worker"] * processes) as workers:
            self._warm_up()
            for worker in workers:
                worker.pause()
            fill(self._lab.postgresql, self.url, Size(self._number, "due"))
            self._stamps.clear()
            for worker in workers:
                worker.resume()
            return self._watch(workers)

    def _watch(self, workers: Sequence[Process]) -> Taken:
        meter = Meter(self._stamps, self._lab.postgresql)
        with self._explaining():
            return meter.watch(workers, lambda: rate(self.finish()))

    def wait_until_published(self, within: float = 180) -> None:
        """Wait until the relay has handed all tasks to the broker."""
        eventually(
            lambda: not self.count("published_at IS NULL"),
            "all are published",
            within=within,
        )

    def stream(self) -> float:
        """Return the tasks a second from their commit to the last success."""
        with self.running(*self._project.workers):
            self._warm_up()
            self.clear()
            began = self._project.measure("enqueue", self._number, **self.settings)
            # A look at the database starts a program, which takes time from tasks.
            with self._explaining():
                self._stamps.wait(self._check)
            seconds: float = self.finish()[-1] - began["committing"]
            return self._number / seconds

    def finish(self) -> list[float]:
        """Wait until all tasks have succeeded, and return when, in order."""
        with self._explaining():
            eventually(
                lambda: not self.count("finished_at IS NULL"), "all ended", within=300
            )
        if failed := self.count("status <> 'succeeded'"):
            raise AssertionError(f"{failed} tasks did not succeed")

        ends = "SELECT extract(epoch FROM finished_at) FROM tasks ORDER BY 1"
        return [float(row[0]) for row in self._lab.postgresql.query(self.url, ends)]

    def count(self, condition: str) -> int:
        """Return how many tasks are in this state."""
        counting = f"SELECT count(*) FROM tasks WHERE {condition}"
        return self._lab.postgresql.number(self.url, counting)

    def clear(self) -> None:
        """Forget all tasks."""
        self._lab.postgresql.query(self.url, "TRUNCATE tasks", "CHECKPOINT")
        self._stamps.clear()

    def _warm_up(self) -> None:
        number = min(WARM_UP, self._stamps.number)
        self._project.measure("enqueue", number, **self.settings)
        self.finish()

    def _check(self) -> None:
        for process in self._processes:
            process.check()

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        """Say what became of the tasks, and of the processes, if it takes too long."""
        try:
            yield
        except (Failed, TimeoutError) as failure:
            counting = "SELECT status, attempts, count(*) FROM tasks GROUP BY 1, 2"
            rows = self._lab.postgresql.query(self.url, counting)
            logs = [f"{each.log.name}:\n{each.log_end()}" for each in self._processes]
            raise Failed("\n".join([str(failure), str(rows), *logs])) from None
