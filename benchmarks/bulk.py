"""Measure what much at a time costs: many enqueues, waiting tasks and old ones."""

import time
import urllib.request
from statistics import median

from benchmarks.benchmark import Benchmark, Highlight, Requirement
from benchmarks.figures import Goal, Result, Spread, percentile
from benchmarks.lab import POSTGRESQL, Lab, Project
from benchmarks.ledger import Size, fill
from benchmarks.picture import Panel

INTRODUCTION = """\
`enqueue_many` records all tasks by one call in one transaction; single enqueues commit
one by one, as requests do, or share a transaction. `/metrics` is asked again and again
while so many tasks wait. Claims are made one at a time, 200 a second, while another
process deletes old tasks: as the project does, a batch every five seconds, or one batch
after the other as fast as it can.
"""

MANY = "enqueue_many"
SINGLE = "single enqueues, each committed"
TOGETHER = "single enqueues in one transaction"
METRICS = "GET /metrics"
CLAIM = "a claim, p99"
WITHOUT = "without pruning"
_PRUNING = {
    "regularly": "beside the project's pruning",
    "at-once": "beside pruning without a pause",
}
RATE = "tasks/s"
HERE, BESIDE = "measured", "what it is compared with"


def bench(lab: Lab) -> Result:
    """Measure each of them in turns with what it is compared with."""
    result = Result("bulk")
    project = lab.project(POSTGRESQL)
    _bench_enqueue(lab, result, project)
    _bench_metrics(lab, result, project)
    _bench_claims(lab, result, project)
    result.versions = lab.postgresql.version
    return result


def _bench_enqueue(lab: Lab, result: Result, project: Project) -> None:
    number, singles = lab.scale(10_000, 100), lab.scale(2000, 20)
    what = f"{MANY} of {number:,}"
    committed = result.add(what, SINGLE, RATE, [], goal=Goal(at_least=20))
    together = result.add(what, TOGETHER, RATE, [])

    url = lab.database(project)
    for _ in range(lab.scale.repetitions):
        fill(lab.postgresql, url)
        rates = project.measure("bulk", number, singles, DATABASE_URL=url)
        for row, single in ((committed, "committed"), (together, "in_one_transaction")):
            row.figures.append(rates["many"])
            row.references.append(rates[single])


def _bench_metrics(lab: Lab, result: Result, project: Project) -> None:
    small, large = (Size(n, "due") for n in lab.scale.sizes(1000, 1_000_000))
    goal = Goal(at_most=2)
    row = result.add(f"{METRICS}, {large}", str(small), "ms", [], goal=goal)
    urls = {}
    for size in (small, large):
        urls[size] = lab.database(project)
        fill(lab.postgresql, urls[size], size)
        lab.postgresql.query(urls[size], "VACUUM ANALYZE tasks", "CHECKPOINT")

    for _ in range(lab.scale.repetitions):
        row.references.append(_ask(lab, project, urls[small]))
        row.figures.append(_ask(lab, project, urls[large]))


def _ask(lab: Lab, project: Project, url: str) -> float:
    """Return the median milliseconds of a request for the metrics."""
    api, port = project.start_api(DATABASE_URL=url)
    try:
        times = []
        for _ in range(lab.scale(30, 5)):
            began = time.perf_counter()
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                answer.read()
            times.append((time.perf_counter() - began) * 1000)
            time.sleep(0.1)

        return median(times)
    finally:
        api.stop()


def _bench_claims(lab: Lab, result: Result, project: Project) -> None:
    old, seconds = lab.scale(1_000_000, 1000), lab.scale(30, 1)
    waiting = Size(1000 * seconds, "due")
    rows = {
        how: result.add(f"{CLAIM}, {named}", WITHOUT, "ms", [], goal=Goal(at_most=2))
        for how, named in _PRUNING.items()
    }
    url = lab.database(project)
    settings = {"DATABASE_URL": url}

    for _ in range(lab.scale.repetitions):
        for how, row in rows.items():
            fill(lab.postgresql, url, Size(old, "expired"), waiting)
            lab.postgresql.query(url, "VACUUM ANALYZE tasks", "CHECKPOINT")
            without = project.measure("claims", seconds, **settings)
            beside = project.measure("claims", seconds, how, **settings)
            row.references.append(percentile(without, 0.99))
            row.figures.append(percentile(beside, 0.99))


def _highlights(result: Result) -> list[Highlight]:
    return [
        Highlight("many tasks recorded by one call", row)
        for row in result.rows
        if row.against == SINGLE
    ]


def _picture(result: Result) -> list[Panel]:
    rates: dict[str, dict[str, Spread]] = {}
    times: dict[str, dict[str, Spread]] = {}
    for row in result.rows:
        if row.unit == RATE:
            rates[row.what] = {HERE: row.figure}
            if row.reference:
                rates[row.against] = {BESIDE: row.reference}
        else:
            times[row.what] = {HERE: row.figure}
            if row.reference:
                times[row.what][BESIDE] = row.reference

    return [
        Panel("Recording many tasks", f"{RATE}; more is better", rates),
        Panel("A request or a claim beside many tasks", "ms; less is better", times),
    ]


BENCHMARK = Benchmark(
    name="bulk",
    title="Much at a time",
    introduction=INTRODUCTION,
    run=bench,
    requirements=(
        Requirement(
            "`enqueue_many` at least 20 times as fast as single enqueues",
            lambda row: row.what.startswith(MANY),
        ),
        Requirement(
            "`/metrics` beside a million waiting tasks at most twice as slow as beside"
            " a thousand",
            lambda row: row.what.startswith(METRICS),
        ),
        Requirement(
            "p99 of a claim while a million old tasks are deleted at most twice that"
            " without",
            lambda row: row.what.startswith(CLAIM),
        ),
    ),
    highlights=_highlights,
    picture=_picture,
)
