"""Measure what a request that enqueues a task costs, whatever the broker does."""

import runpy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from benchmarks.benchmark import Benchmark, Highlight, Requirement
from benchmarks.figures import Goal, Result, Row, Spread, median_ratio, short
from benchmarks.lab import Lab, Project, run_load
from benchmarks.picture import OURS, Panel
from benchmarks.stamps import Stamps
from generator.variants import Variant

INTRODUCTION = """\
A POST that writes one row, and enqueues a task or does not. The latency is that of
requests one at a time, the throughput that of eight at a time. The relay publishes
meanwhile; no worker runs. A proxy in the place of the broker refuses connections, or
accepts them and stays silent. `with a second row` inserts one more row instead of the
task: no transactional outbox does less. Without a broker nothing publishes, and nothing
can refuse or hang.
"""

PLAIN, TWO_ROWS, TASK = "/row", "/two-rows", "/row-and-task"
THREAD, LOOP = "/row-and-engine-in-thread", "/row-and-engine-on-loop"
WITHOUT = "the same without"
SECOND_ROW = "the same with a second row"
BROKER_UP = "broker up"
HANGING = "broker hanging"
METRICS = {"median": "ms", "p99": "ms", "throughput": "requests/s"}

_WITH_TASK = {
    "median": Goal(at_most=1.3),
    "p99": None,
    "throughput": Goal(at_least=1 / 1.3),
}
_BROKER_AWAY = {
    "median": Goal(at_most=1.2),
    "p99": None,
    "throughput": Goal(at_least=1 / 1.2),
}

_OF_A_ROW = Goal(at_most=1.5)

Figures = dict[str, float]
Taken = dict[tuple[str, str], list[Figures]]


class Service:
    """A variant's API without a worker; its broker, if any, is behind a proxy."""

    def __init__(self, lab: Lab, project: Project) -> None:
        self._lab = lab
        self._project = project
        self._number = lab.scale(1000, 30)
        self._url = lab.database(project)
        self._direct = lab.settings(project, self._url)
        self._stamps = Stamps(lab.folder / "request.stamps", 1)
        self._stamps.clear()
        self._settings = {**self._direct, **self._stamps.settings}
        self.proxy: Any = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the API meanwhile, and its relay if there is a broker."""
        with ExitStack() as stack:
            settings = self._settings
            if self._project.variant.has_broker:
                settings = self._behind_a_proxy(stack)
            api, self._port = self._project.start_api(**settings)
            stack.callback(api.stop)

            with ExitStack() as declaring:  # The worker declares the queues.
                for kind in self._project.workers:
                    process = self._project.start(kind, **self._settings)
                    declaring.callback(process.stop)
                run_load(self._port, "POST", TASK, requests=1)
                self._stamps.wait_for(0)

            if self._project.variant.has_broker:
                relay = self._project.start("relay", **settings)
                stack.callback(relay.stop)
            for path in (PLAIN, TWO_ROWS, TASK):
                self.measure(path)
            yield

    def _behind_a_proxy(self, stack: ExitStack) -> dict[str, str]:
        """Return settings that reach the broker through a proxy; start that."""
        broker = self._lab.broker(self._project.variant.name)
        # The project's own tests have one.
        module = runpy.run_path(
            str(self._project.folder / "tests/delivery/support/proxy.py")
        )
        self.proxy = module["Proxy"]("127.0.0.1", broker.port)
        stack.callback(self.proxy.refuse)
        through = broker.url.replace(f":{broker.port}", f":{self.proxy.port}")
        reference = self._project.variant.name.replace("-", "_")
        return {**self._settings, "BROKER_URL": through, "BENCH_REFERENCE": reference}

    def measure(self, path: str, seconds: float = 0) -> Figures:
        """Send requests one at a time for the latency, eight for the throughput.

        What refuses or hangs is given only so many seconds, and may fail.
        """
        self._lab.postgresql.query(
            self._url, "TRUNCATE tasks", "TRUNCATE orders CASCADE"
        )
        limits: dict[str, object] = {"seconds": seconds} if seconds else {}

        one = run_load(
            self._port, "POST", path, connections=1, requests=self._number, **limits
        )
        many = run_load(
            self._port, "POST", path, connections=8, requests=2 * self._number, **limits
        )
        return {**one, "throughput": many["throughput"]}


def bench(lab: Lab) -> Result:
    """Measure the routes in turns, with the broker up, refusing and hanging."""
    result = Result("request")
    for variant in lab.variants:
        service = Service(lab, lab.project(variant.name))
        direct = _direct(variant)
        with service.running():
            taken = _measure(lab, service, direct)
        _Comparison(result, variant, taken).add_all(direct)

    return result


def _direct(variant: Variant) -> dict[str, str]:
    """Return the routes that call the engine without a ledger, and how each does."""
    if not variant.has_broker:
        return {}
    if variant.answers["engine"] == "arq":
        return {THREAD: "awaited"}
    return {THREAD: "in a thread", LOOP: "on the loop"}


def _measure(lab: Lab, service: Service, direct: dict[str, str]) -> Taken:
    """Return the figures of each repetition, by the broker's state and the route."""
    states: dict[str, Callable[[], None]] = {"up": lambda: None}
    if service.proxy:
        states = {
            "up": service.proxy.accept,
            "refusing": service.proxy.refuse,
            "hanging": service.proxy.hang,
        }
    taken: Taken = {}

    for _ in range(lab.scale.repetitions):
        for state, enter in states.items():
            enter()
            if state == "up" and service.proxy:
                # The relay publishes again a second after it could not.
                time.sleep(1.5)
            without = [PLAIN, TWO_ROWS] if state == "up" else []
            for path in (*without, TASK, *direct):
                seconds = 0 if path not in direct or state == "up" else lab.scale(4, 2)
                figures = service.measure(path, seconds)
                taken.setdefault((state, path), []).append(figures)

    if service.proxy:
        service.proxy.accept()
    return taken


class _Comparison:
    """Adds to a result what was measured of a variant's routes, side by side."""

    def __init__(self, result: Result, variant: Variant, taken: Taken) -> None:
        self._result = result
        self._variant = variant.name
        self._variant_has_broker = variant.has_broker
        self._taken = taken

    def add_all(self, direct: dict[str, str]) -> None:
        """Compare requests with and without a task, and with a call of the engine."""
        without = ("up", PLAIN)
        self._add("with a task", ("up", TASK), WITHOUT, without, _WITH_TASK)
        self._add("with a second row", ("up", TWO_ROWS), WITHOUT, without, {})

        what = f"{self._variant}, with a task, p99"
        task, second_row = (
            [figures["p99"] for figures in self._taken["up", path]]
            for path in (TASK, TWO_ROWS)
        )
        self._result.add(what, SECOND_ROW, "ms", task, second_row, _OF_A_ROW)

        for state in ("refusing", "hanging") if self._variant_has_broker else ():
            away, up = (state, TASK), ("up", TASK)
            self._add(f"broker {state}", away, BROKER_UP, up, _BROKER_AWAY)

        for path, how in direct.items():
            for state in ("up", "refusing", "hanging"):
                name = f"the engine called {how}, broker {state}"
                ours, theirs = (state, TASK), (state, path)
                self._add(f"with a task, broker {state}", ours, name, theirs, {})

                failed = max(figures["failed"] for figures in self._taken[theirs])
                if failed:
                    self._result.notes.append(
                        f"{self._variant}, {name}: {failed:.0%} of its requests failed."
                    )

    def _add(
        self,
        what: str,
        key: tuple[str, str],
        against: str,
        reference: tuple[str, str],
        goals: Mapping[str, Goal | None],
    ) -> None:
        for metric, unit in METRICS.items():
            self._result.add(
                f"{self._variant}, {what}, {metric}",
                against,
                unit,
                [figures[metric] for figures in self._taken[key]],
                [figures[metric] for figures in self._taken[reference]],
                goals.get(metric),
            )


def _named(result: Result, ending: str, against: str) -> list[Row]:
    return [
        row
        for row in result.rows
        if row.what.endswith(f", {ending}") and row.against == against
    ]


def _highlights(result: Result) -> list[Highlight]:
    """Return the variants whose requests a task, or a hanging broker, costs most."""
    with_task = partial(_named, result, against=WITHOUT)
    found = {
        "a request with a task": with_task("with a task, median"),
        "such requests, eight at a time": with_task("with a task, throughput"),
        "such a request while the broker hangs": _named(
            result, f"{HANGING}, median", BROKER_UP
        ),
    }

    worst = {
        text: (min if "throughput" in rows[0].what else max)(rows, key=median_ratio)
        for text, rows in found.items()
        if rows
    }
    return [
        Highlight(f"{text}; at worst {_variant(row)}", row)
        for text, row in worst.items()
    ]


def _picture(result: Result) -> list[Panel]:
    latencies: dict[str, dict[str, Spread]] = {}
    for row in _named(result, "with a task, median", WITHOUT):
        group = latencies.setdefault(_variant(row), {OURS: row.figure})
        if row.reference:
            group["without a task"] = row.reference
    for row in _named(result, "with a second row, median", WITHOUT):
        latencies[_variant(row)]["a second row instead"] = row.figure

    hanging: dict[str, dict[str, Spread]] = {}
    for row in result.rows:
        is_direct = row.against.startswith("the engine called")
        if is_direct and row.what.endswith(f"{HANGING}, median") and row.reference:
            group = hanging.setdefault(_variant(row), {OURS: row.figure})
            group.setdefault("the engine called directly", row.reference)

    unit = "ms, median; less is better"
    panels = [
        Panel("A request that writes a row and enqueues a task", unit, latencies),
        Panel("The same while the broker hangs", unit, hanging, is_logarithmic=True),
    ]
    return [panel for panel in panels if panel.groups]


def _variant(row: Row) -> str:
    return row.what.partition(", ")[0]


def _with_a_second_row(rows: Sequence[Row]) -> str:
    """Return what the least costs that any outbox would do."""
    spans = []
    for metric in ("median", "throughput"):
        ending = f"second row, {metric}"
        ratios = [median_ratio(row) for row in rows if row.what.endswith(ending)]
        spans.append(f"{metric} {short(min(ratios))} to {short(max(ratios))}")

    return f"with a second row instead of a task: {', '.join(spans)}"


BENCHMARK = Benchmark(
    name="request",
    title="Request",
    introduction=INTRODUCTION,
    run=bench,
    requirements=(
        Requirement(
            "with a task at most 1.3 times the same request without",
            lambda row: row.against == WITHOUT,
            limit=_with_a_second_row,
        ),
        Requirement(
            "with a task, the p99 at most 1.5 times that with a second row",
            lambda row: row.against == SECOND_ROW,
        ),
        Requirement(
            "unchanged (within 1.2) when the broker refuses or hangs",
            lambda row: row.against == BROKER_UP,
        ),
    ),
    highlights=_highlights,
    picture=_picture,
)
