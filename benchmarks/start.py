"""Measure how long an idle system takes from a task's enqueue to its first line."""

import json
import random
import statistics
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from benchmarks.benchmark import Benchmark, Highlight, Requirement
from benchmarks.end_to_end import ALONE, Bare
from benchmarks.figures import (
    Goal,
    Result,
    Row,
    Spread,
    median_ratio,
    percentile,
    short,
)
from benchmarks.lab import Lab, Project
from benchmarks.picture import OURS, Panel
from benchmarks.stamps import Stamps

INTRODUCTION = """\
From the call of `enqueue` in an idle API to the first line of the task, the commit and
the publish included; for the engine alone, from the send.
"""

GAP_SECONDS = 0.15
MIDDLE = ", median"
MEDIAN = Goal(at_most=50, of_figure=True)


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


def bench(lab: Lab) -> Result:
    """Measure each variant, its bare engine, and the embedded executor, in turns."""
    result = Result("start")
    number = lab.scale(60, 5)
    stamps = Stamps(lab.folder / "start.stamps", number)
    for variant in lab.variants:
        _bench_variant(lab, result, lab.project(variant.name), stamps, number)
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


def _bench_variant(
    lab: Lab, result: Result, project: Project, stamps: Stamps, number: int
) -> None:
    name = project.variant.name
    broker = lab.broker(name).url
    settings = {"DATABASE_URL": lab.database(project), "BROKER_URL": broker}
    settings |= stamps.settings
    bare = Bare(lab, project, stamps, number)
    rows = _Rows(result, name, ALONE)

    for _ in range(lab.scale.repetitions):
        worker = bare.start_worker()
        try:
            bare.warm_up(worker)
            alone = waits(bare.publish(number, GAP_SECONDS), stamps, number)
        finally:
            worker.stop()

        with running(project, "worker", "relay", **settings) as port:
            rows.add(ask(port, stamps, number), alone)


def _bench_embedded(lab: Lab, result: Result, stamps: Stamps, number: int) -> None:
    project = lab.project(lab.variants[0].name)
    urls = {
        "PostgreSQL": lab.database(project),
        "SQLite": f"sqlite+aiosqlite:///{lab.folder}/embedded.db",
    }

    for name, url in urls.items():
        rows = _Rows(result, f"embedded on {name}", "")
        for _ in range(lab.scale.repetitions):
            with running(project, DATABASE_URL=url, **stamps.settings) as port:
                rows.add(ask(port, stamps, number))


def _post(port: int, index: int, gap: float = 0) -> float:
    # Not in lockstep with what polls.
    time.sleep(gap * random.uniform(0.5, 1.5))  # noqa: S311
    url = f"http://127.0.0.1:{port}/row-and-task?index={index}"
    with urllib.request.urlopen(urllib.request.Request(url, method="POST")) as answer:
        return float(json.load(answer)["at"])


def _medians(result: Result) -> list[Row]:
    return [row for row in result.rows if row.what.endswith(MIDDLE)]


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
        if row.goal and row.reference
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
            limit=_floors,
        ),
    ),
    highlights=_highlights,
    picture=_picture,
)
