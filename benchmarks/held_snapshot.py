"""Measure what a snapshot costs that somebody holds for long, as a backup does."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.benchmark import Benchmark, Highlight, Requirement
from benchmarks.end_to_end import BEFORE, RATE
from benchmarks.figures import Goal, Result, Spread, percentile
from benchmarks.lab import INSIDE, POSTGRESQL, Lab, Project
from benchmarks.ledger import Size, fill
from benchmarks.ours import WARM_UP
from benchmarks.picture import Panel
from benchmarks.processes import Failed, Process
from benchmarks.stamps import Stamps, rate
from generator.services import eventually

INTRODUCTION = """\
A transaction that has read once stays open, as that of a backup or of an analyst does.
PostgreSQL then keeps every dead row. 500 tasks a second are enqueued, five in a
transaction, for a minute before, for ten minutes while it is held, and for two minutes
after; this is measured once. The p99 is that of the time from the enqueue of a task,
its commit included, to its first line; it is back when that of five seconds is no
higher than the highest such was before.

Then a worker runs 200,000 tasks as fast as it can, with such a transaction and without.
A dead row is a version of a row that an update or a deletion left behind, those that
PostgreSQL can clear away on its own (HOT) included. For `the commit before`, the API
runs 20,000 tasks, as it does without a broker.
"""

BEFORE_IT, HELD, AFTER = "before the snapshot", "while it is held", "after its release"
STARTED = "tasks started"
WAIT = "from enqueue to start, p99"
BACK = "until the p99 is back"
FULL_SPEED = "at full speed"
WITHOUT = "without a snapshot"
DEAD, NOT_HOT, WAL = "dead rows a task", "of them not HOT", "WAL a task"
_UNITS = {DEAD: "rows", NOT_HOT: "rows", WAL: "bytes"}
WINDOW_SECONDS = 5


@dataclass(frozen=True)
class Written:
    """What the tasks of one run left behind, each."""

    rate: float
    each: dict[str, float]


class Service:
    """A project that needs no broker, or that runs its tasks in its API."""

    def __init__(self, lab: Lab, project: Project) -> None:
        self._lab = lab
        self.project = project
        self.url = lab.database(project)

    @contextmanager
    def running(self, stamps: Stamps) -> Iterator[Process]:
        """Run what runs its tasks meanwhile."""
        settings = {"DATABASE_URL": self.url, **stamps.settings}
        if self.project.variant.has_broker:
            worker, _ = self.project.start_api(**settings)
        else:
            worker = self.project.start("worker", **settings)
        try:
            yield worker
        finally:
            worker.stop()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Hold a snapshot meanwhile."""
        command = f"exec {self.project.python} {INSIDE / 'snapshot.py'}"
        holder = self.project.start_command(command, "snapshot", DATABASE_URL=self.url)

        def is_held() -> bool:
            holder.check()
            return "held" in holder.log.read_text()

        try:
            eventually(is_held, "the snapshot is held")
            yield
            holder.check()
        finally:
            holder.stop()

    def work_off(self, stamps: Stamps) -> Written:
        """Run a backlog as fast as it can, and return what that wrote."""
        number = stamps.number
        fill(self._lab.postgresql, self.url, Size(number, "due"))
        stamps.clear()
        self._query("SELECT pg_stat_reset()")
        [[began]] = self._query("SELECT pg_current_wal_lsn()")
        with self.running(stamps) as worker:
            while stamps.count() < number:
                worker.check()
                time.sleep(0.5)
            eventually(self._all_succeeded, "all have succeeded", within=600)

        # The worker has gone, and with it has told what it did.
        [[wal]] = self._query(f"SELECT pg_current_wal_lsn() - '{began}'::pg_lsn")
        [[dead, not_hot]] = self._query(
            "SELECT sum(n_tup_upd + n_tup_del), sum(n_tup_upd + n_tup_del"
            " - n_tup_hot_upd) FROM pg_stat_user_tables"
        )
        ends = self._query(
            "SELECT extract(epoch FROM finished_at) FROM tasks ORDER BY 1"
        )
        totals = {DEAD: dead, NOT_HOT: not_hot, WAL: wal}
        each = {name: float(total) / number for name, total in totals.items()}
        return Written(rate([float(end) for [end] in ends]), each)

    def _all_succeeded(self) -> bool:
        [[left]] = self._query("SELECT count(*) FROM tasks WHERE status <> 'succeeded'")
        return left == "0"

    def _query(self, statement: str) -> list[list[str]]:
        return self._lab.postgresql.query(self.url, statement)


def bench(lab: Lab) -> Result:
    """Measure a steady load around a held snapshot once, and full speed in turns."""
    result = Result("held_snapshot")
    service = Service(lab, lab.project(POSTGRESQL))
    _bench_steady(lab, result, service)
    _bench_full_speed(lab, result, service)
    result.versions = lab.postgresql.version
    return result


def _bench_steady(lab: Lab, result: Result, service: Service) -> None:
    a_second = lab.scale(500, 100)
    before, held, after = (lab.scale(n, 5) for n in (60, 600, 120))
    warm_up = lab.scale(10, 1)
    seconds = warm_up + before + held + after + 10  # It is stopped before that.
    stamps = Stamps(lab.folder / "held-started.stamps", a_second * seconds)
    enqueued = Stamps(lab.folder / "held-enqueued.stamps", stamps.number)

    with service.running(stamps) as worker:
        command = f"exec {service.project.python} {INSIDE / 'steady.py'}"
        steady = service.project.start_command(
            f"{command} {a_second} {seconds}",
            "steady",
            DATABASE_URL=service.url,
            BENCH_ENQUEUED=str(enqueued.path),
        )
        try:
            enqueued.wait_for(a_second * warm_up)
            moments = [time.time()]
            time.sleep(before)
            with service.snapshot():
                moments.append(time.time())
                time.sleep(held)
            moments.append(time.time())
            time.sleep(after)
            moments.append(time.time())
            steady.check()
            worker.check()
            time.sleep(lab.scale(30, 1))  # What was enqueued last starts.
        finally:
            steady.stop()

    travels = [
        (at, ran or time.time())
        for at, ran in zip(enqueued.read(), stamps.read(), strict=True)
        if at
    ]
    _compare(result, Phases(travels, moments))


@dataclass(frozen=True)
class Phases:
    """When each task was enqueued and started, and when the phases began and ended."""

    travels: Sequence[tuple[float, float]]
    moments: Sequence[float]

    def started(self, phase: int) -> float:
        """Return how many tasks started a second in a phase."""
        begin, end = self.moments[phase : phase + 2]
        return sum(begin <= ran < end for _, ran in self.travels) / (end - begin)

    def p99(self, begin: float, end: float) -> float:
        """Return the p99, in milliseconds, of what was enqueued in this time."""
        waits = [(ran - at) * 1000 for at, ran in self.travels if begin <= at < end]
        if not waits:
            raise Failed("nothing was enqueued for seconds")
        return percentile(waits, 0.99)

    def p99_of(self, phase: int) -> float:
        """Return the p99 of a phase, in milliseconds."""
        return self.p99(*self.moments[phase : phase + 2])

    def seconds_until_back(self) -> float:
        """Return how long after the release the p99 is as it was before.

        That is the end of the last phase if it is not.
        """
        began, held, released, end = self.moments
        usual = max(self._windows(began, held).values())
        late = [at for at, p99 in self._windows(released, end).items() if p99 > usual]
        return max(late, default=released - WINDOW_SECONDS) + WINDOW_SECONDS - released

    def _windows(self, begin: float, end: float) -> dict[float, float]:
        number = max(1, int((end - begin) // WINDOW_SECONDS))
        starts = [begin + WINDOW_SECONDS * index for index in range(number)]
        return {at: self.p99(at, at + WINDOW_SECONDS) for at in starts}


def _compare(result: Result, phases: Phases) -> None:
    """Add what was measured of the phases to the result."""
    started = [phases.started(phase) for phase in range(3)]
    waits = [phases.p99_of(phase) for phase in range(3)]
    for phase, named in ((1, HELD), (2, AFTER)):
        few = Goal(at_least=0.95) if phase == 1 else None
        slow = Goal(at_most=2) if phase == 1 else None
        result.add(
            f"{STARTED} {named}", BEFORE_IT, RATE, [started[phase]], [started[0]], few
        )
        result.add(
            f"{WAIT}, {named}", BEFORE_IT, "ms", [waits[phase]], [waits[0]], slow
        )

    back = Goal(at_most=60, of_figure=True)
    result.add(BACK, "", "s", [phases.seconds_until_back()], goal=back)


def _bench_full_speed(lab: Lab, result: Result, service: Service) -> None:
    number = lab.scale(200_000, 300)
    stamps = Stamps(lab.folder / "full-speed.stamps", number)
    rates = result.add(
        f"{number:,} tasks {FULL_SPEED}, {HELD}",
        WITHOUT,
        RATE,
        [],
        goal=Goal(at_least=0.5),
    )
    before = _service_before(lab)
    goal = Goal(at_most=1) if before else None
    written = {
        name: result.add(
            f"{POSTGRESQL}, {name}",
            BEFORE if before else "",
            unit,
            [],
            goal=None if name == NOT_HOT else goal,
        )
        for name, unit in _UNITS.items()
    }

    for _ in range(lab.scale.repetitions):
        ours = service.work_off(stamps)
        rates.references.append(ours.rate)
        with service.snapshot():
            rates.figures.append(service.work_off(stamps).rate)
        for name, row in written.items():
            row.figures.append(ours.each[name])

        if before:
            path = lab.folder / "full-speed-before.stamps"
            fewer = Stamps(path, lab.scale(20_000, WARM_UP))
            theirs = before.work_off(fewer)
            for name, row in written.items():
                row.references.append(theirs.each[name])


def _service_before(lab: Lab) -> Service | None:
    """Return the service of the commit before: without a broker, or in its API."""
    if lab.before is None or not lab.before.variants:
        return None
    names = [variant.name for variant in lab.before.variants]
    name = POSTGRESQL if POSTGRESQL in names else names[0]
    return Service(lab.before, lab.before.project(name))


def _highlights(result: Result) -> list[Highlight]:
    return [
        Highlight("from enqueue to start beside a snapshot held for long, p99", row)
        for row in result.rows
        if row.what == f"{WAIT}, {HELD}"
    ]


def _picture(result: Result) -> list[Panel]:
    waits: dict[str, dict[str, Spread]] = {}
    rates: dict[str, dict[str, Spread]] = {}
    for row in result.rows:
        if row.what.startswith(WAIT):
            if row.reference:
                waits[BEFORE_IT] = {"p99": row.reference}
            waits[row.what.removeprefix(f"{WAIT}, ")] = {"p99": row.figure}
        elif FULL_SPEED in row.what and row.reference:
            rates[WITHOUT] = {RATE: row.reference}
            rates[HELD] = {RATE: row.figure}

    return [
        Panel("From enqueue to start, 500 tasks a second", "ms; less is better", waits),
        Panel("A backlog at full speed", "tasks a second; more is better", rates),
    ]


BENCHMARK = Benchmark(
    name="held_snapshot",
    title="A snapshot that is held",
    introduction=INTRODUCTION,
    run=bench,
    requirements=(
        Requirement(
            "throughput at least 0.95 of before, p99 at most twice that of before",
            lambda row: row.against == BEFORE_IT,
        ),
        Requirement(
            "the p99 is back within 60 s of the release", lambda row: row.what == BACK
        ),
        Requirement(
            "at full speed at least 0.5 of the rate without a snapshot",
            lambda row: FULL_SPEED in row.what,
        ),
        Requirement(
            "fewer dead rows and less WAL a task than the commit before",
            lambda row: row.against == BEFORE,
        ),
    ),
    highlights=_highlights,
    picture=_picture,
)
