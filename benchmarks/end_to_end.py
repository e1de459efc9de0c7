"""Measure how many trivial tasks a second one worker service runs to their success."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from statistics import median

from benchmarks.benchmark import Benchmark, Highlight, Requirement
from benchmarks.figures import Goal, Result, Row, Spread, median_ratio, short
from benchmarks.lab import REFERENCES, Lab, Project, installed, merged
from benchmarks.ledger import Size
from benchmarks.picture import OURS, Panel
from benchmarks.processes import Failed, Process, measure, run
from benchmarks.stamps import Stamps, rate
from generator.services import eventually
from generator.variants import Variant

VERSIONS = (
    "celery",
    "kombu",
    "arq",
    "dramatiq",
    "redis",
    "pika",
    "asyncpg",
    "sqlalchemy",
)
RIVALS = ("procrastinate", "pgqueuer")
WARM_UP = 64
ALWAYS, EVERY_SECOND = "always", "everysec"

INTRODUCTION = """\
Trivial tasks through the broker and one worker service, with PostgreSQL at its default
durability. A backlog waits in the broker; the rate is taken after the first tenth.

`its engine alone` is the same engine with the same processes at its safest settings,
without a ledger, on the same broker. For Redis that means `appendfsync always`: like
PostgreSQL, it flushes to the disk before it confirms. A Redis that flushes once a
second, as in a generated `compose.yaml`, may lose what it confirmed, and an engine
without a ledger loses those tasks. `its engine and two statements` adds the least that
any ledger in PostgreSQL needs, and nothing else: one prepared statement to claim a
task, and one to end it. Rows `from the first send` give an idle worker all tasks at
once, and are timed from the commit, or from the first send, to the last end.

procrastinate (sixteen tasks at a time) and PgQueuer (at its defaults) run in one
process and need PostgreSQL only. `bare SQL` claims and finishes tasks with prepared
statements, from two processes.
"""

ALONE = "its engine alone"
LESS_SAFE = "its engine alone, both on a Redis that flushes once a second"
TWO_STATEMENTS = "its engine and two statements"
STREAM = "its engine alone, both from the first send"
FIXED_RATE = "1,800 a second"
POSTGRESQL_ONLY = "PostgreSQL without a broker"

# As the generated Procfile runs its own.
_WORKERS = {
    "celery": "exec celery --app {} worker --concurrency 4 --loglevel WARNING"
    " --without-mingle --without-gossip",
    "arq": "exec arq {}.WorkerSettings",
    "dramatiq": "exec dramatiq {}:broker --processes 2 --threads 16",
}
_CONNECTIONS = {"celery": 4, "arq": 16, "dramatiq": 32}
_GOALS = {
    "celery": Goal(at_least=0.6),
    "arq": Goal(at_least=0.6),
    "dramatiq": Goal(at_least=0.5),
}


class Ours:
    """A variant's worker and relay on PostgreSQL and its broker."""

    def __init__(self, lab: Lab, project: Project, stamps: Stamps, number: int) -> None:
        self._lab = lab
        self._project = project
        self._stamps = stamps
        self._number = number
        self._processes: list[Process] = []
        self._url = lab.database(project)

        broker = lab.broker(project.variant.name)
        self.settings = {
            "DATABASE_URL": self._url,
            "BROKER_URL": broker.url,
            **stamps.settings,
        }
        with self.running("worker", "relay"):  # Declares the queues.
            self._project.measure("enqueue", WARM_UP, **self.settings)
            self._finish()

    @contextmanager
    def running(self, *kinds: str) -> Iterator[None]:
        """Run processes of the Procfile meanwhile."""
        started = len(self._processes)
        try:
            for kind in kinds:
                self._processes.append(self._project.start(kind, **self.settings))
            yield
        finally:
            for process in self._processes[started:]:
                process.stop()
            del self._processes[started:]

    def backlog(self) -> float:
        """Return the tasks a second while a worker runs what waits in the broker."""
        self._clear()
        with self.running("relay"):
            self._project.measure("enqueue", self._number, **self.settings)
            self.wait_until_published()
            with self.running("worker"):
                return rate(self._finish(stamped=True))

    def wait_until_published(self, within: float = 60) -> None:
        """Wait until the relay has handed all tasks to the broker."""
        eventually(
            lambda: not self._count("published_at IS NULL"),
            "all are published",
            within=within,
        )

    def stream(self) -> float:
        """Return the tasks a second from their commit to the last success."""
        with self.running("worker", "relay"):
            self._project.measure("enqueue", WARM_UP, **self.settings)
            self._finish()
            self._clear()
            began = self._project.measure("enqueue", self._number, **self.settings)
            seconds: float = self._finish(stamped=True)[-1] - began["committing"]
            return self._number / seconds

    def _check(self) -> None:
        for process in self._processes:
            process.check()

    def _finish(self, stamped: bool = False) -> list[float]:
        try:
            # A look at the database starts a program, which takes its time from tasks.
            if stamped:
                self._stamps.wait(self._check)
            eventually(
                lambda: not self._count("finished_at IS NULL"), "all ended", within=300
            )
        except (Failed, TimeoutError) as failure:
            counting = "SELECT status, attempts, count(*) FROM tasks GROUP BY 1, 2"
            rows = self._lab.postgresql.query(self._url, counting)
            logs = [f"{each.log.name}:\n{each.log_end()}" for each in self._processes]
            raise Failed("\n".join([str(failure), str(rows), *logs])) from None

        if failed := self._count("status <> 'succeeded'"):
            raise AssertionError(f"{failed} tasks did not succeed")

        ends = "SELECT extract(epoch FROM finished_at) FROM tasks ORDER BY 1"
        return [float(row[0]) for row in self._lab.postgresql.query(self._url, ends)]

    def _count(self, condition: str) -> int:
        counting = f"SELECT count(*) FROM tasks WHERE {condition}"
        return self._lab.postgresql.number(self._url, counting)

    def _clear(self) -> None:
        self._lab.postgresql.query(self._url, "TRUNCATE tasks", "CHECKPOINT")
        self._stamps.clear()


class Bare:
    """The variant's engine without a ledger, on the same broker."""

    def __init__(self, lab: Lab, project: Project, stamps: Stamps, number: int) -> None:
        self._project = project
        self._stamps = stamps
        self._number = number
        self._module = project.variant.name.replace("-", "_")
        broker = lab.broker(project.variant.name)
        self._settings = {"BROKER_URL": broker.url, **stamps.settings}

        worker = self.start_worker()  # Declares its queue.
        try:
            self.warm_up(worker)
        finally:
            worker.stop()

    def publish(self, number: int, gap: float = 0) -> list[float]:
        """Publish tasks one after the other, and return when."""
        program = str(REFERENCES / f"{self._module}.py")
        command = [self._project.python, program, str(number), str(gap)]
        environment = self._project.environment(**self._settings)
        sent: list[float] = measure(command, self._project.folder, environment)
        return sent

    def start_worker(self, **settings: str) -> Process:
        """Start its worker."""
        command = _WORKERS[self._project.engine].format(self._module)
        return self._project.start_command(
            command, "bare", **self._settings, **settings
        )

    def warm_up(self, worker: Process) -> None:
        """Let the worker run a few tasks."""
        self._stamps.clear()
        eventually(lambda: self._runs(worker), "the bare worker runs tasks")
        time.sleep(0.5)  # All that were published until now have run.
        self._stamps.clear()

    def backlog(self, database: str = "") -> float:
        """Return the tasks a second while a worker runs what waits in the broker.

        With a database each of them is claimed and finished there, by two statements.
        """
        self._stamps.clear()
        self.publish(self._number)

        settings = {"BENCH_TWO_STATEMENTS": database} if database else {}
        worker = self.start_worker(**settings)
        try:
            return rate(self._stamps.wait(worker.check))
        finally:
            worker.stop()

    def stream(self) -> float:
        """Return the tasks a second from the first publish to the last end."""
        worker = self.start_worker()
        try:
            self.warm_up(worker)
            sent = self.publish(self._number)
            return self._number / (self._stamps.wait(worker.check)[-1] - sent[0])
        finally:
            worker.stop()

    def _runs(self, worker: Process) -> bool:
        worker.check()
        self.publish(1)
        return bool(self._stamps.read()[0])


class Rival:
    """A task queue that needs PostgreSQL only."""

    def __init__(self, lab: Lab, name: str, stamps: Stamps, number: int) -> None:
        self._lab = lab
        self._program = str(REFERENCES / f"{name}_tasks.py")
        self._stamps = stamps
        self._number = number
        self._environment = {
            "DATABASE_URL": lab.database(),
            "PYTHONPATH": str(REFERENCES.with_name("inside")),
            **stamps.settings,
        }
        self._run("prepare")

    def backlog(self) -> float:
        """Return the tasks a second while one process runs what waits."""
        self._stamps.clear()
        self._run("publish", str(self._number))
        self._run("work")
        return rate(sorted(self._stamps.read()))

    def _run(self, *arguments: str) -> None:
        command = [self._lab.rivals, self._program, *arguments]
        run(command, self._lab.folder, self._environment)


def fill(lab: Lab, url: str, number: int) -> None:
    """Put so many waiting tasks into a ledger, in the place of all that it holds."""
    insert = Size(number, "published").statement
    lab.postgresql.query(url, "TRUNCATE tasks", insert, "CHECKPOINT")


class Round:
    """All that is measured in turns: variants, bare engines, rivals, the database."""

    def __init__(self, lab: Lab, result: Result) -> None:
        self._lab = lab
        self._number = lab.scale(3000, 100)
        stamps = Stamps(lab.folder / "end-to-end.stamps", self._number)
        made = (stamps, self._number)

        names = [variant.name for variant in lab.variants]
        self.projects = {name: lab.project(name) for name in names}
        self._ours = {n: Ours(lab, p, *made) for n, p in self.projects.items()}
        self._bare = {n: Bare(lab, p, *made) for n, p in self.projects.items()}
        self._rivals = {name: Rival(lab, name, *made) for name in RIVALS}
        self._url = lab.database(self.projects[names[0]])
        self._rows = {variant.name: _rows(result, variant) for variant in lab.variants}

        for project in self.projects.values():
            _flush(lab, project, ALWAYS)

    def measure(self) -> None:
        """Measure all of them once, and add what was measured to the rows."""
        common = {name: rival.backlog() for name, rival in self._rivals.items()}
        project = next(iter(self.projects.values()))
        engines = {project.engine for project in self.projects.values()}
        for connections in sorted({_CONNECTIONS[engine] for engine in engines}):
            fill(self._lab, self._url, self._number)
            common[_bare_sql(connections)] = project.measure(
                "ceiling", self._url, connections
            )

        for name in self.projects:
            self._measure_variant(name, common)

    def _measure_variant(self, name: str, common: Mapping[str, float]) -> None:
        ours, bare, rows = self._ours[name], self._bare[name], self._rows[name]
        rates = {**common, ALONE: bare.backlog()}
        rate_of_ours = ours.backlog()

        rates[STREAM] = bare.stream()
        figures = {STREAM: ours.stream()}

        fill(self._lab, self._url, self._number)
        rates[TWO_STATEMENTS] = bare.backlog(self._url)

        if LESS_SAFE in rows:
            _flush(self._lab, self.projects[name], EVERY_SECOND)
            rates[LESS_SAFE] = bare.backlog()
            figures[LESS_SAFE] = ours.backlog()
            _flush(self._lab, self.projects[name], ALWAYS)

        for against, row in rows.items():
            row.figures.append(figures.get(against, rate_of_ours))
            row.references += [rates[against]] if against in rates else []


def bench(lab: Lab) -> Result:
    """Measure every variant, its bare engine, the rivals and the database, in turns."""
    result = Result("end_to_end")
    turns = Round(lab, result)
    for _ in range(lab.scale.repetitions):
        turns.measure()

    environments = [project.versions() for project in turns.projects.values()]
    environments.append(installed(lab.rivals, lab.folder))
    result.versions = merged(*environments, names=(*VERSIONS, *RIVALS))
    return result


def _flush(lab: Lab, project: Project, when: str) -> None:
    """Say when Redis, if it is the broker, flushes what it is given to the disk."""
    if project.variant.answers["broker"] == "redis":
        url = lab.broker(project.variant.name).url
        client = f"import redis; redis.Redis.from_url({url!r})"
        setting = f"{client}.config_set('appendfsync', {when!r})"
        run([project.python, "-c", setting], lab.folder)


def _bare_sql(connections: int) -> str:
    return f"bare SQL on {connections} connections"


def _rows(result: Result, variant: Variant) -> dict[str, Row]:
    engine = variant.answers["engine"]
    goals: dict[str, Goal | None] = {
        ALONE: _GOALS[engine],
        **({LESS_SAFE: None} if variant.answers["broker"] == "redis" else {}),
        STREAM: None,
        TWO_STATEMENTS: None,
        **dict.fromkeys(RIVALS, Goal(at_least=1)),
        _bare_sql(_CONNECTIONS[engine]): None,
    }
    if engine == "dramatiq":
        goals[FIXED_RATE] = Goal(at_least=1800, of_figure=True)

    return {
        against: result.add(variant.name, against, "tasks/s", [], goal=goal)
        for against, goal in goals.items()
    }


def _highlights(result: Result) -> list[Highlight]:
    rows = result.rows
    rates = [
        Highlight(f"a worker of {row.what}", row)
        for row in rows
        if row.against == ALONE
    ]

    fastest = max((row for row in rows if row.against == "pgqueuer"), key=median_ratio)
    return [*rates, Highlight(f"the fastest of them: {fastest.what}", fastest)]


def _picture(result: Result) -> list[Panel]:
    variants: dict[str, dict[str, Spread]] = {}
    others: dict[str, dict[str, Spread]] = {}
    for row in result.rows:
        if row.reference is None:
            continue
        if row.against in {ALONE, TWO_STATEMENTS}:
            group = variants.setdefault(row.what, {OURS: row.figure})
            group[row.against] = row.reference
        elif row.against not in {LESS_SAFE, STREAM}:
            others[row.against] = {POSTGRESQL_ONLY: row.reference}

    title = "A backlog of trivial tasks, run by one worker service"
    return [Panel(title, "tasks a second; more is better", {**variants, **others})]


def _rates(rows: Sequence[Row], against: str) -> str:
    rates = [
        f"{row.what} {short(row.reference.median)}"
        for row in rows
        if row.against == against and row.reference
    ]
    return f"tasks/s, {against}: {', '.join(rates)}"


def _kept_with_two_statements(rows: Sequence[Row]) -> str:
    """Return the part of its rate that an engine keeps with the least of a ledger."""
    alone = {row.what: row.references for row in rows if row.against == ALONE}
    kept = []
    for row in rows:
        if row.against == TWO_STATEMENTS:
            pairs = zip(row.references, alone[row.what], strict=True)
            share = median(least / bare for least, bare in pairs)
            kept.append(f"{row.what} {short(share)}")

    return f"the engine and two statements a task, nothing else: {', '.join(kept)}"


BENCHMARK = Benchmark(
    name="end_to_end",
    title="End to end",
    introduction=INTRODUCTION,
    run=bench,
    requirements=(
        Requirement(
            "at least 0.6 of the bare engine for Celery and ARQ, 0.5 for Dramatiq",
            lambda row: row.against == ALONE,
            limit=_kept_with_two_statements,
        ),
        Requirement(
            "Dramatiq: at least 1,800 tasks a second",
            lambda row: row.against == FIXED_RATE,
            limit=partial(_rates, against=TWO_STATEMENTS),
        ),
        Requirement(
            "ahead of procrastinate on three variants",
            lambda row: row.against == "procrastinate",
            at_least=3,
        ),
        Requirement(
            "ahead of PgQueuer on three variants",
            lambda row: row.against == "pgqueuer",
            at_least=3,
            limit=partial(_rates, against=TWO_STATEMENTS),
        ),
    ),
    highlights=_highlights,
    picture=_picture,
)
