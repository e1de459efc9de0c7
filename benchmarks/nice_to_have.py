"""Measure what a nice-to-have task costs, and what requests beside it notice."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from benchmarks.benchmark import Benchmark, Highlight, Requirement
from benchmarks.figures import Goal, Result, Row, Spread
from benchmarks.lab import Lab, Project, run_load
from benchmarks.picture import Panel

INTRODUCTION = """\
A `def` route is asked 50 times a second while the CPU-heavy `def` tasks of 60 requests
run, in one process; a late answer counts from its appointed time.
"""

ENQUEUE = Goal(at_most=1.5)
UNDER_FLOOD = Goal(at_most=2)
# More than the 40 threads that `def` routes share with bare tasks.
FLOODING_REQUESTS = 60
REQUEST = "a request with a task"
CALL = "the call alone"
BESIDE = "a def route beside CPU-heavy tasks"
CHECKED = "add_task after a check of its arguments"
PLAIN_THREAD = "a plain thread that computes"
CASES = {
    "ours": ("1", "ours"),
    "ours with two threads": ("2", "ours"),
    PLAIN_THREAD: ("1", "thread"),
    "bare add_task": ("", "bare"),
}


Figures = dict[str, float]


@contextmanager
def running(project: Project, threads: str = "1") -> Iterator[int]:
    """Run the API, and yield its port."""
    api, port = project.start_api("nice_api:app", BENCH_THREADS=threads)
    try:
        yield port
    finally:
        api.stop(within=0)


def bench(lab: Lab) -> Result:
    """Measure requests and calls in turns, then `def` routes beside CPU-heavy tasks."""
    result = Result("nice_to_have")
    project = lab.project("nice-to-have")
    _bench_enqueue(lab, result, project)
    _bench_flood(lab, result, project)
    return result


def _bench_enqueue(lab: Lab, result: Result, project: Project) -> None:
    number = lab.scale(3000, 100)
    same, alone = "the same with add_task", "add_task alone"
    request = result.add(REQUEST, same, "ms", [], goal=ENQUEUE)
    through = result.add("requests with a task", same, "requests/s", [])
    call = result.add(CALL, alone, "µs", [], goal=ENQUEUE)
    checked = result.add(CHECKED, alone, "µs", [])

    with running(project) as port:
        for _ in range(lab.scale.repetitions):
            for path, row in (("/bare", "references"), ("/ours", "figures")):
                one = run_load(port, "POST", path, connections=1, requests=number)
                many = run_load(port, "POST", path, connections=8, requests=number)
                getattr(request, row).append(one["median"])
                getattr(through, row).append(many["throughput"])

            calls = project.measure("nice_calls", 10 * number)
            call.figures.append(calls["ours"])
            checked.figures.append(calls["checked"])
            for each in (call, checked):
                each.references.append(calls["bare"])


def _bench_flood(lab: Lab, result: Result, project: Project) -> None:
    for case in CASES:
        flooded, goal = f"{BESIDE}, {case}", UNDER_FLOOD if case == "ours" else None
        rows = {
            "median": result.add(f"{flooded}, median", "idle", "ms", []),
            "p99": result.add(f"{flooded}, p99", "idle", "ms", [], goal=goal),
        }

        for _ in range(lab.scale.repetitions):
            idle, busy = _flood(lab, project, case)
            for metric, row in rows.items():
                row.figures.append(busy[metric])
                row.references.append(idle[metric])


def _flood(lab: Lab, project: Project, case: str) -> tuple[Figures, Figures]:
    """Return what a `def` route takes before and beside CPU-heavy tasks."""
    threads, flood = CASES[case]
    requests = 1 if case == PLAIN_THREAD else lab.scale(FLOODING_REQUESTS, 4)
    options = {"connections": 16, "requests": lab.scale(1000, 20), "rate": 50}
    options["seconds"] = 30

    with running(project, threads) as port:
        idle = run_load(port, "GET", "/sync", **options)
        path = f"/flood/{flood}"
        run_load(port, "POST", path, connections=requests, requests=requests)
        busy = run_load(port, "GET", "/sync", **options)

    return idle, busy


def _row(rows: Sequence[Row], ending: str) -> Row:
    return next(row for row in rows if row.what.endswith(ending))


def _highlights(result: Result) -> list[Highlight]:
    return [
        Highlight("a request with a nice-to-have task", _row(result.rows, REQUEST)),
        Highlight(f"{BESIDE}, p99", _row(result.rows, "ours, p99")),
    ]


def _picture(result: Result) -> list[Panel]:
    groups: dict[str, dict[str, Spread]] = {}
    for row in result.rows:
        if row.what.startswith(BESIDE) and row.what.endswith(", p99"):
            name = row.what.removeprefix(f"{BESIDE}, ").removesuffix(", p99")
            groups[name] = {"beside CPU-heavy tasks": row.figure}
            if row.reference:
                groups[name]["idle"] = row.reference

    title = "The slowest 1 % of a def route's answers, beside CPU-heavy def tasks"
    return [Panel(title, "ms, p99; less is better", groups, is_logarithmic=True)]


def _ratio(rows: Sequence[Row], what: str) -> str:
    """Return what the least costs that would do the same."""
    return f"{what}: {_row(rows, what).ratio}"


BENCHMARK = Benchmark(
    name="nice_to_have",
    title="Nice to have",
    introduction=INTRODUCTION,
    run=bench,
    requirements=(
        Requirement(
            "a request that enqueues: at most 1.5 times one with bare `add_task`",
            lambda row: row.what == REQUEST,
        ),
        Requirement(
            "the call of `enqueue` alone: at most 1.5 times that of `add_task`",
            lambda row: row.what == CALL,
            limit=partial(_ratio, what=CHECKED),
        ),
        Requirement(
            "`def` routes keep their p99 within twice idle beside CPU-heavy tasks",
            lambda row: row.what.startswith(BESIDE),
            limit=partial(_ratio, what=f"{PLAIN_THREAD}, p99"),
        ),
    ),
    highlights=_highlights,
    picture=_picture,
)
