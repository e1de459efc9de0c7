"""Measure how many trivial tasks a second one worker service runs to their success."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.bare import Bare
from benchmarks.benchmark import Benchmark, Highlight, Requirement
from benchmarks.figures import Goal, Result, Row, Spread, median_ratio
from benchmarks.lab import POSTGRESQL, Lab, Project, find_python, installed, merged
from benchmarks.meter import Taken
from benchmarks.ours import Ours
from benchmarks.picture import OURS, Panel
from benchmarks.processes import run
from benchmarks.rivals import TOOLS, Rival, SetBased
from benchmarks.stamps import Stamps

VERSIONS = (
    "celery",
    "kombu",
    "arq",
    "dramatiq",
    "redis",
    "pika",
    "asyncpg",
    "sqlalchemy",
    "procrastinate",
    "pgqueuer",
    "oban",
    "dbos",
)
ALWAYS, EVERY_SECOND = "always", "everysec"

INTRODUCTION = """\
A backlog of trivial tasks that one worker service works off, with PostgreSQL at its
default durability; the rate is taken after the first tenth. With a broker the backlog
waits there, without one in PostgreSQL.

`its engine alone` is the same engine with the same processes at its safest settings,
without a ledger, on the same broker. For Redis that means `appendfsync always`: like
PostgreSQL, it flushes to the disk before it confirms. A Redis that flushes once a
second, as in a generated `compose.yaml`, may lose what it confirmed, and an engine
without a ledger loses those tasks. Rows `from the first send` give an idle worker all
tasks at once, and are timed from the commit, or from the first send, to the last end.

`set-based SQL` is a program that does nothing but claim and end tasks in the ledger by
statements that are prepared and each good for many tasks, as many at a time as the
worker runs. The others need PostgreSQL only, too, and run as their own documentation
recommends for throughput: all with uvloop where they allow it; PgQueuer with a pool of
asyncpg's, in its batches of 10 and in larger ones; procrastinate with 16 tasks at a
time and Oban with 100, which were their fastest; DBOS with a queue without limits, of
which one process of two takes most. 20,000 tasks wait for each of them, 4,000 for
procrastinate and 5,000 for DBOS, which would take minutes; in a broker 8,000 for
Dramatiq and 3,000 for the others. Oban needs Python 3.12 and runs on one like that
where the others' is older.

`processor time` is what a task took of the worker's processes, or of PostgreSQL's,
with all that they started.
"""

ALONE = "its engine alone"
LESS_SAFE = "its engine alone, both on a Redis that flushes once a second"
STREAM = "its engine alone, both from the first send"
SET_BASED = "set-based SQL"
BEFORE = "the commit before"
TWO = "two processes"
WORKER = "processor time of its worker"
DATABASE = "processor time of PostgreSQL"
BEYOND = "processor time of its worker beyond its engine's"
RATE, TIME = "tasks/s", "µs"
INSTEAD = "what else needs PostgreSQL only"
PROCESSES = {1: "", 2: f", {TWO}"}

_NUMBERS = {"dramatiq": 8000}
"""How many tasks wait for an engine that runs 3,000 in a moment."""

_OF_ITS_ENGINE = {
    "celery-redis": 0.75,
    "celery-rabbitmq": 0.5,
    "arq-redis": 0.85,
    "dramatiq-redis": 0.6,
    "dramatiq-rabbitmq": 0.4,
}
_OF_RIVALS = {
    SET_BASED: 0.7,
    "PgQueuer": 3,
    "PgQueuer in batches of 100": 3,
    "procrastinate": 20,
    "Oban": 1,
    "DBOS": 1,
}
# None may be slower than before; a twentieth is noise.
_OF_BEFORE = {"dramatiq": 1.5}
_NOT_SLOWER = 0.95
_HALF = Goal(at_most=0.5)


@dataclass(frozen=True)
class Rows:
    """What is compared with one reference: the rate, and what a task takes."""

    rate: Row
    worker: Row
    database: Row

    @classmethod
    def add_to(
        cls, result: Result, what: str, against: str, goal: Goal | None
    ) -> "Rows":
        """Add them to a result."""
        return cls(
            result.add(what, against, RATE, [], goal=goal),
            result.add(f"{what}, {WORKER}", against, TIME, []),
            result.add(f"{what}, {DATABASE}", against, TIME, []),
        )

    def note(self, ours: Taken, theirs: Taken) -> None:
        """Add a repetition."""
        _note(self.rate, ours.rate, theirs.rate)
        _note(self.worker, ours.worker, theirs.worker)
        _note(self.database, ours.database, theirs.database)


class Brokered:
    """A variant with a broker, its bare engine, and itself as it was before."""

    def __init__(self, lab: Lab, result: Result, project: Project) -> None:
        self._lab = lab
        self._project = project
        name = project.variant.name
        number = lab.scale(_NUMBERS.get(project.engine, 3000), 100)
        stamps = Stamps(lab.folder / f"{name}.stamps", number)
        self._ours = Ours(lab, project, stamps, number)
        self._bare = Bare(lab, project, stamps, number)
        self._is_on_redis = project.variant.answers["broker"] == "redis"
        _flush(lab, project, ALWAYS)

        goal = Goal(at_least=_OF_ITS_ENGINE[name])
        self._rate = result.add(name, ALONE, RATE, [], goal=goal)
        self._worker = result.add(f"{name}, {WORKER}", ALONE, TIME, [])
        self._database = result.add(f"{name}, {DATABASE}", "", TIME, [])
        if self._is_on_redis:
            self._less_safe = result.add(name, LESS_SAFE, RATE, [])
        self._stream = result.add(name, STREAM, RATE, [])

        self._before: Ours | None = None
        if lab.before and any(v.name == name for v in lab.before.variants):
            before = lab.before.project(name)
            self._before = Ours(lab.before, before, stamps, number)
            _flush(lab.before, before, ALWAYS)
            at_least = _OF_BEFORE.get(project.engine, _NOT_SLOWER)
            goal = Goal(at_least=at_least)
            self._compared = Rows.add_to(result, name, BEFORE, goal)
            self._beyond = result.add(f"{name}, {BEYOND}", BEFORE, TIME, [], goal=_HALF)

    def measure(self) -> None:
        """Measure all of it once."""
        alone, ours = self._bare.backlog(), self._ours.backlog()
        _note(self._rate, ours.rate, alone.rate)
        _note(self._worker, ours.worker, alone.worker)
        self._database.figures.append(ours.database)

        if self._before:
            before = self._before.backlog()
            self._compared.note(ours, before)
            # A difference of two figures: never under a microsecond.
            beyond = [max(t.worker - alone.worker, 1.0) for t in (ours, before)]
            _note(self._beyond, *beyond)

        _note(self._stream, self._ours.stream(), self._bare.stream())
        if self._is_on_redis:
            _flush(self._lab, self._project, EVERY_SECOND)
            alone, ours = self._bare.backlog(), self._ours.backlog()
            _note(self._less_safe, ours.rate, alone.rate)
            _flush(self._lab, self._project, ALWAYS)


class Brokerless:
    """The variant without a broker, SQL alone, and what else needs PostgreSQL only."""

    def __init__(self, lab: Lab, result: Result, project: Project) -> None:
        number = lab.scale(20_000, 100)
        stamps = Stamps(lab.folder / f"{project.variant.name}.stamps", number)
        self._ours = Ours(lab, project, stamps, number)
        set_based = SetBased(lab, project, number)
        self._opponents: dict[str, Callable[[int], Taken]] = {
            SET_BASED: set_based.backlog
        }
        self.environments: list[str] = []
        """The Pythons of the rivals."""
        for tool in TOOLS:
            if python := find_python(tool.minor):
                rival = Rival(lab, tool, python)
                self._opponents[tool.name] = rival.backlog
                self.environments.append(rival.python)
            else:
                result.notes.append(
                    f"{tool.name} is not measured: it needs Python 3.{tool.minor},"
                    " which this machine has not."
                )

        self._rows = {
            (against, processes): Rows.add_to(
                result,
                f"{project.variant.name}{named}",
                f"{against}{named}",
                # The goals are about one process; the other rows show what two add.
                Goal(at_least=_OF_RIVALS[against]) if processes == 1 else None,
            )
            for processes, named in PROCESSES.items()
            for against in self._opponents
            # In the small, two processes are tried once.
            if processes == 1 or against == SET_BASED or not lab.scale.quick
        }

    def measure(self) -> None:
        """Measure all of it once, ours anew beside each."""
        for (against, processes), rows in self._rows.items():
            theirs = self._opponents[against](processes)
            rows.note(self._ours.backlog(processes), theirs)


def bench(lab: Lab) -> Result:
    """Measure every variant, its bare engine, the rivals and the database, in turns."""
    result = Result("end_to_end")
    projects = [lab.project(variant.name) for variant in lab.variants]
    brokerless = [
        Brokerless(lab, result, project)
        for project in projects
        if not project.variant.has_broker
    ]
    brokered = [
        Brokered(lab, result, project)
        for project in projects
        if project.variant.has_broker
    ]
    for _ in range(lab.scale.repetitions):
        for without in brokerless:
            without.measure()
        for each in brokered:
            each.measure()

    environments = [project.versions() for project in projects]
    for without in brokerless:
        environments += [installed(p, lab.folder) for p in without.environments]
    result.versions = merged(*environments, names=VERSIONS)
    result.versions |= lab.postgresql.version
    return result


def _note(row: Row, figure: float, reference: float) -> None:
    row.figures.append(figure)
    row.references.append(reference)


def _flush(lab: Lab, project: Project, when: str) -> None:
    """Say when Redis, if it is the broker, flushes what it is given to the disk."""
    if project.variant.answers["broker"] == "redis":
        url = lab.broker(project.variant.name).url
        client = f"import redis; redis.Redis.from_url({url!r})"
        setting = f"{client}.config_set('appendfsync', {when!r})"
        run([project.python, "-c", setting], lab.folder)


def _against(rows: Sequence[Row], against: str) -> list[Row]:
    """Return the rates that are compared with this."""
    return [row for row in rows if row.against == against and row.unit == RATE]


def _rivals(rows: Sequence[Row]) -> list[Row]:
    """Return the rates of one process beside those of others."""
    names = [tool.name for tool in TOOLS]
    return [
        row
        for row in rows
        if row.what == POSTGRESQL and row.against in names and row.unit == RATE
    ]


def _highlights(result: Result) -> list[Highlight]:
    chosen: dict[str, list[Row]] = {
        "a worker without a broker": [
            row for row in _against(result.rows, SET_BASED) if row.what == POSTGRESQL
        ],
        "the same beside the fastest other": _rivals(result.rows),
    }
    alone = sorted(_against(result.rows, ALONE), key=median_ratio)
    for row in {row.what: row for row in (alone[:1] + alone[-1:])}.values():
        chosen[f"a worker of {row.what}"] = [row]

    return [
        Highlight(text, min(rows, key=median_ratio))
        for text, rows in chosen.items()
        if rows
    ]


def _picture(result: Result) -> list[Panel]:
    brokerless: dict[str, dict[str, Spread]] = {}
    for row in result.rows:
        if row.unit == RATE and row.what.startswith(POSTGRESQL):
            name = row.what.removeprefix(POSTGRESQL)
            brokerless.setdefault(f"{POSTGRESQL}{name}", {OURS: row.figure})
            if row.reference:
                brokerless[row.against] = {INSTEAD: row.reference}

    brokered: dict[str, dict[str, Spread]] = {}
    for row in _against(result.rows, ALONE):
        group = brokered.setdefault(row.what, {OURS: row.figure})
        if row.reference:
            group[ALONE] = row.reference

    unit = "tasks a second; more is better"
    panels = {
        "A backlog in PostgreSQL, without a broker": brokerless,
        "A backlog in a broker, run by one worker service": brokered,
    }
    return [Panel(title, unit, groups) for title, groups in panels.items() if groups]


def _rival(name: str) -> Callable[[Row], bool]:
    """Return the condition of being the rate of one process beside this one's."""
    return lambda row: row.against == name and row.unit == RATE


BENCHMARK = Benchmark(
    name="end_to_end",
    title="End to end",
    introduction=INTRODUCTION,
    run=bench,
    requirements=(
        Requirement(
            "of set-based SQL at least 0.7, without a broker", _rival(SET_BASED)
        ),
        Requirement("at least 3 times PgQueuer in its batches", _rival("PgQueuer")),
        Requirement(
            "at least 3 times PgQueuer in larger batches",
            _rival("PgQueuer in batches of 100"),
        ),
        Requirement("at least 20 times procrastinate", _rival("procrastinate")),
        Requirement(
            "ahead of Oban and of DBOS", lambda row: row.against in {"Oban", "DBOS"}
        ),
        Requirement(
            "of the bare engine at least 0.75 for Celery and 0.85 for ARQ on Redis,"
            " 0.5 for Celery on RabbitMQ, for Dramatiq 0.6 and 0.4",
            lambda row: row.against == ALONE,
        ),
        Requirement(
            "Dramatiq at least 1.5 times as fast as the commit before, and no engine"
            " slower (0.95, for noise)",
            lambda row: row.against == BEFORE and row.unit == RATE,
        ),
        Requirement(
            "beyond the bare engine's, at most half of the worker's processor time of"
            " the commit before",
            lambda row: row.what.endswith(BEYOND),
        ),
    ),
    highlights=_highlights,
    picture=_picture,
)
