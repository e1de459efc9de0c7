"""Measure how long an idle system takes from a task's enqueue to its first line."""

import json
import random
import statistics
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from benchmarks.bare import Bare
from benchmarks.benchmark import Benchmark, Highlight, Requirement
from benchmarks.end_to_end import ALONE, BEFORE
from benchmarks.figures import (
    Goal,
    Result,
    Row,
    Spread,
    median_ratio,
    percentile,
    short,
)
from benchmarks.lab import POSTGRESQL, Lab, Project
from benchmarks.picture import OURS, Panel
from benchmarks.stamps import Stamps

INTRODUCTION = """\
From the call of `enqueue` in an idle API to the first line of the task, the commit and
the publish included; for the engine alone, from the send.
"""

GAP_SECONDS = 0.15
MIDDLE = ", median"
FASTEST = "the fastest engine with a broker"
MEDIAN = Goal(at_most=50, of_figure=True)
_NO_SLOWER = 1.05  # A twentieth is noise.


@contextmanager
def running(project: Project, *kinds: str, **settings: str) -> Iterator[int]:
    """Run the API and other processes of a project, and yield the API's port."""
    with ExitStack() as stack:
        for kind in kinds:
            stack.callback(project.start(kind, **settings).stop)
        api, port = project.start_api(**settings)
        stack.callback(api.stop)
        yield port


def ask(port: int, stamps: Stamps, number: int) -> list[float]:
    """Enqueue tasks one by one through the API, and return the milliseconds of each."""
    _post(port, 0)
    stamps.wait_for(0)
    stamps.clear()

    sent = [_post(port, index, GAP_SECONDS) for index in range(number)]
    return waits(sent, stamps, number)


def waits(sent: list[float], stamps: Stamps, number: int) -> list[float]:
    """Return the milliseconds from each sending to its task's first line."""
    stamps.wait_for(number - 1)
    return [(ran - at) * 1000 for at, ran in zip(sent, stamps.read(), strict=False)]


class Idle:
    """A variant's processes that have nothing to do until a task is enqueued."""

    def __init__(self, lab: Lab, project: Project, stamps: Stamps) -> None:
        self._project = project
        self._stamps = stamps
        self._settings = lab.settings(project, lab.database(project))
        self._settings |= stamps.settings

    def measure(self) -> list[float]:
        """Return the milliseconds that each task took."""
        with running(self._project, *self._project.workers, **self._settings) as port:
            return ask(port, self._stamps, self._stamps.number)


class Brokered:
    """A variant with a broker, its bare engine, and itself as it was before."""

    def __init__(
        self, lab: Lab, result: Result, project: Project, stamps: Stamps
    ) -> None:
        name = project.variant.name
        self._stamps = stamps
        self._bare = Bare(lab, project, stamps, stamps.number)
        self._ours = Idle(lab, project, stamps)
        self._rows = _Rows(result, name, ALONE)

        self._before: Idle | None = None
        if lab.before and any(v.name == name for v in lab.before.variants):
            self._before = Idle(lab.before, lab.before.project(name), stamps)
            goal = Goal(at_most=_NO_SLOWER)
            what = f"{name}{MIDDLE}"
            self._compared = result.add(what, BEFORE, "ms", [], goal=goal)

    def measure(self) -> float:
        """Measure all of it once, and return the median."""
        worker = self._bare.start_worker()
        try:
            self._bare.warm_up(worker)
            number = self._stamps.number
            sent = self._bare.publish(number, GAP_SECONDS)
            alone = waits(sent, self._stamps, number)
        finally:
            worker.stop()

        ours = self._ours.measure()
        self._rows.add(ours, alone)
        middle = statistics.median(ours)
        if self._before:
            self._compared.figures.append(middle)
            self._compared.references.append(statistics.median(self._before.measure()))
        return middle


def bench(lab: Lab) -> Result:
    """Measure each variant, its bare engine, and the embedded executor, in turns."""
    result = Result("start")
    number = lab.scale(60, 5)
    stamps = Stamps(lab.folder / "start.stamps", number)
    brokered = [
        Brokered(lab, result, lab.project(variant.name), stamps)
        for variant in lab.brokered
    ]
    brokerless = Idle(lab, lab.project(POSTGRESQL), stamps)
    rows = _Rows(result, POSTGRESQL, "")
    goal = Goal(at_most=_NO_SLOWER)
    compared = result.add(f"{POSTGRESQL}{MIDDLE}", FASTEST, "ms", [], goal=goal)

    for _ in range(lab.scale.repetitions):
        medians = [each.measure() for each in brokered]
        ours = brokerless.measure()
        rows.add(ours)
        compared.figures.append(statistics.median(ours))
        compared.references += [min(medians)] if medians else []

    _bench_embedded(lab, result, stamps, number)
    return result


class _Rows:
    """The median and the 99th percentile of one thing."""

    def __init__(self, result: Result, name: str, against: str) -> None:
        self._medians = result.add(f"{name}{MIDDLE}", against, "ms", [], goal=MEDIAN)
        self._p99s = result.add(f"{name}, p99", against, "ms", [])

    def add(self, ours: list[float], alone: list[float] | None = None) -> None:
        """Add a repetition."""
        self._medians.figures.append(statistics.median(ours))
        self._p99s.figures.append(percentile(ours, 0.99))
        if alone:
            self._medians.references.append(statistics.median(alone))
            self._p99s.references.append(percentile(alone, 0.99))


def _bench_embedded(lab: Lab, result: Result, stamps: Stamps, number: int) -> None:
    project = lab.project(POSTGRESQL)
    urls = {
        "PostgreSQL": lab.database(project),
        "SQLite": f"sqlite+aiosqlite:///{lab.folder}/embedded.db",
    }

    for name, url in urls.items():
        rows = _Rows(result, f"embedded on {name}", "")
        settings = {"DATABASE_URL": url, "API_RUNS_TASKS": "true", **stamps.settings}
        for _ in range(lab.scale.repetitions):
            with running(project, **settings) as port:
                rows.add(ask(port, stamps, number))


def _post(port: int, index: int, gap: float = 0) -> float:
    # Not in lockstep with what polls.
    time.sleep(gap * random.uniform(0.5, 1.5))  # noqa: S311
    url = f"http://127.0.0.1:{port}/row-and-task?index={index}"
    with urllib.request.urlopen(urllib.request.Request(url, method="POST")) as answer:
        return float(json.load(answer)["at"])


def _medians(result: Result) -> list[Row]:
    """Return the medians that stand alone or beside the engine without a ledger."""
    return [
        row
        for row in result.rows
        if row.what.endswith(MIDDLE) and row.against in {ALONE, ""}
    ]


def _highlights(result: Result) -> list[Highlight]:
    dearest = max(_medians(result), key=median_ratio)
    variant = dearest.what.removesuffix(MIDDLE)
    text = f"from `enqueue` to the task's first line; at worst {variant}"
    return [Highlight(text, dearest)]


def _picture(result: Result) -> list[Panel]:
    groups: dict[str, dict[str, Spread]] = {}
    for row in _medians(result):
        group = groups.setdefault(row.what.removesuffix(MIDDLE), {})
        group[OURS] = row.figure
        if row.reference:
            group[ALONE] = row.reference

    goal = (f"goal: at most {MEDIAN.at_most} ms", MEDIAN.at_most or 0.0)
    title = "From the call of enqueue to the first line of the task, in an idle system"
    return [Panel(title, "ms, median; less is better", groups, goal)]


def _floors(rows: Sequence[Row]) -> str:
    """Return how long the engines alone take."""
    floors = [
        f"{row.what} {short(row.reference.median)}"
        for row in rows
        if row.goal == MEDIAN and row.reference
    ]
    return f"alone: {', '.join(floors)}"


BENCHMARK = Benchmark(
    name="start",
    title="Start",
    introduction=INTRODUCTION,
    run=bench,
    requirements=(
        Requirement(
            "median under 50 ms on every engine, or the engine's own floor beside it",
            lambda row: row.goal == MEDIAN,
            limit=_floors,
        ),
        Requirement(
            "without a broker no slower than the fastest engine with one (1.05, for"
            " noise)",
            lambda row: row.against == FASTEST,
        ),
        Requirement(
            "with a broker no slower than the commit before (1.05, for noise)",
            lambda row: row.against == BEFORE,
        ),
    ),
    highlights=_highlights,
    picture=_picture,
)
