"""What a nice-to-have task costs, and what its neighbours notice of one that needs a processor."""

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.figures import Goal, Result
from benchmarks.lab import Lab, Project, run_load

ENQUEUE = Goal(at_most=1.5)
UNDER_FLOOD = Goal(at_most=2)
# More than the 40 threads that `def` routes share with bare tasks.
FLOODING_REQUESTS = 60
CHECKED = "add_task after a check of its arguments"
PLAIN_THREAD = "a plain thread that computes"
CASES = {
    "ours": ("1", "ours"),
    "ours with two threads": ("2", "ours"),
    PLAIN_THREAD: ("1", "thread"),
    "bare add_task": ("", "bare"),
}


@contextmanager
def running(project: Project, threads: str = "1") -> Iterator[int]:
    """Run the API, and yield its port."""
    api, port = project.start_api("nice_api:app", BENCH_THREADS=threads)
    try:
        yield port
    finally:
        api.stop(within=0)


def bench(lab: Lab) -> Result:
    """Measure requests and calls in turns, then `def` routes beside tasks that need a processor."""
    result = Result("nice_to_have")
    project = lab.project("nice-to-have")
    _bench_enqueue(lab, result, project)
    _bench_flood(lab, result, project)
    return result


def _bench_enqueue(lab: Lab, result: Result, project: Project) -> None:
    number = lab.scale(3000, 100)
    request = result.add(
        "a request with a task", "the same with add_task", "ms", [], goal=ENQUEUE
    )
    through = result.add(
        "requests with a task", "the same with add_task", "requests/s", []
    )
    call = result.add("the call alone", "add_task alone", "µs", [], goal=ENQUEUE)
    checked = result.add(CHECKED, "add_task alone", "µs", [])
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
    rate, number = 50, lab.scale(1000, 20)
    for case, (threads, flood) in CASES.items():
        flooded = f"a def route beside CPU-heavy tasks, {case}"
        goal = UNDER_FLOOD if case == "ours" else None
        rows = {
            "median": result.add(f"{flooded}, median", "idle", "ms", []),
            "p99": result.add(f"{flooded}, p99", "idle", "ms", [], goal=goal),
        }
        for _ in range(lab.scale.repetitions):
            with running(project, threads) as port:
                options = {"connections": 16, "requests": number, "rate": rate}
                options["seconds"] = 30
                idle = run_load(port, "GET", "/sync", **options)
                requests = (
                    1 if case == PLAIN_THREAD else lab.scale(FLOODING_REQUESTS, 4)
                )
                path = f"/flood/{flood}"
                run_load(port, "POST", path, connections=requests, requests=requests)
                busy = run_load(port, "GET", "/sync", **options)
            for metric, row in rows.items():
                row.figures.append(busy[metric])
                row.references.append(idle[metric])
