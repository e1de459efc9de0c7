"""Run what else keeps its tasks in PostgreSQL: other queues, and SQL alone."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from benchmarks.lab import INSIDE, REFERENCES, Lab, Project
from benchmarks.ledger import Size, fill
from benchmarks.meter import Meter, Taken
from benchmarks.processes import Process, run
from benchmarks.stamps import Stamps, rate
from generator.services import eventually

_READY = "ready to work"  # As `inside/gate.py` says it.


@dataclass(frozen=True)
class Tool:
    """A task queue that needs PostgreSQL only, and how it is run."""

    name: str
    program: str
    """Which file in `references` runs it."""
    packages: Sequence[str]
    minor: int = 0
    """Which Python 3 it needs at least, if not any."""
    number: int = 20_000
    """How many tasks wait for it; fewer if they would take minutes."""
    settings: tuple[tuple[str, str], ...] = ()


_PGQUEUER = ("pgqueuer[asyncpg]", "asyncpg", "uvloop")
TOOLS = (
    Tool("PgQueuer", "pgqueuer", _PGQUEUER),
    Tool(
        "PgQueuer in batches of 100",
        "pgqueuer",
        _PGQUEUER,
        settings=(("BENCH_BATCH", "100"),),
    ),
    Tool(
        "procrastinate",
        "procrastinate",
        ("procrastinate", "psycopg[binary]", "uvloop"),
        number=4000,
    ),
    Tool("Oban", "oban", ("oban",), minor=12),
    Tool("DBOS", "dbos", ("dbos",), number=5000),
)


class Opponent(ABC):
    """A worker of any number of processes that begin together."""

    def __init__(self, lab: Lab, name: str, number: int) -> None:
        self.lab = lab
        self.number = number
        name = name.replace(" ", "-")
        self._gate = lab.folder / f"{name}.gate"
        self._stamps = Stamps(lab.folder / f"{name}.stamps", number)
        self.settings = {"BENCH_GATE": str(self._gate), **self._stamps.settings}

    @abstractmethod
    def start(self, log: str) -> Process:
        """Start a process of its worker."""

    @abstractmethod
    def enqueue(self) -> None:
        """Let so many tasks wait, and no others."""

    def backlog(self, processes: int = 1) -> Taken:
        """Let so many processes run what waits."""
        self.enqueue()
        self._stamps.clear()
        meter = Meter(self._stamps, self.lab.postgresql)
        with self._running(processes) as workers:
            return meter.watch(workers, lambda: rate(sorted(self._stamps.read())))

    @contextmanager
    def _running(self, processes: int) -> Iterator[Sequence[Process]]:
        self._gate.unlink(missing_ok=True)
        workers: list[Process] = []

        try:
            for index in range(processes):
                log = f"{self._gate.stem}-{index}"
                (self.lab.folder / f"{log}.log").unlink(missing_ok=True)
                workers.append(self.start(log))

            for worker in workers:
                eventually(partial(_is_ready, worker), "a worker is ready")
            self._gate.touch()
            yield workers
        finally:
            for worker in workers:
                worker.stop()


def _is_ready(worker: Process) -> bool:
    worker.check()
    return _READY in worker.log.read_text(errors="replace")


class Rival(Opponent):
    """A task queue that needs PostgreSQL only."""

    def __init__(self, lab: Lab, tool: Tool, python: str) -> None:
        super().__init__(lab, tool.name, lab.scale(tool.number, 100))
        self.python = lab.environment(tool.packages, python)
        self._program = str(REFERENCES / f"{tool.program}_tasks.py")
        self.settings |= {
            "DATABASE_URL": lab.database(),
            "PYTHONPATH": str(INSIDE),
            **dict(tool.settings),
        }
        self._run("prepare")

    def start(self, log: str) -> Process:
        """Start a process of its worker."""
        return Process(
            [self.python, self._program, "work"],
            self.lab.folder,
            self.lab.folder / f"{log}.log",
            environment=self.settings,
        )

    def enqueue(self) -> None:
        """Enqueue all tasks as fast as it can."""
        self._run("publish", str(self.number))

    def _run(self, *arguments: str) -> None:
        command = [self.python, self._program, *arguments]
        run(command, self.lab.folder, self.settings)


class SetBased(Opponent):
    """Nothing but SQL that writes to the ledger what a worker has to write."""

    def __init__(self, lab: Lab, project: Project, number: int) -> None:
        super().__init__(lab, "set-based", number)
        self._project = project
        self._url = lab.database(project)
        self.settings["DATABASE_URL"] = self._url

    def start(self, log: str) -> Process:
        """Start the program in the project's environment."""
        command = f"exec {self._project.python} {INSIDE / 'set_based.py'}"
        return self._project.start_command(command, log, **self.settings)

    def enqueue(self) -> None:
        """Put the tasks into the ledger."""
        fill(self.lab.postgresql, self._url, Size(self.number, "due"))
