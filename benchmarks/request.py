"""What a request that enqueues a must-happen task costs, whatever state the broker is in."""

import runpy
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from benchmarks.figures import Goal, Result, Row
from benchmarks.lab import Lab, Project, run_load
from benchmarks.stamps import Stamps
from generator.variants import Variant

PLAIN, TWO_ROWS, TASK = "/row", "/two-rows", "/row-and-task"
THREAD, LOOP = "/row-and-engine-in-thread", "/row-and-engine-on-loop"
WITHOUT = "the same without"
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

Figures = dict[str, float]


class Service:
    """The API of a variant, and its relay, with a proxy before its broker, and no worker."""

    def __init__(self, lab: Lab, project: Project) -> None:
        self._lab = lab
        self._project = project
        self._number = lab.scale(600, 30)
        self._url = lab.database(project)
        self._broker = lab.broker(project.variant.name)
        self._stamps = Stamps(lab.folder / "request.stamps", 1)
        self._stamps.clear()
        self._settings = {"DATABASE_URL": self._url, **self._stamps.settings}
        self._settings["BENCH_REFERENCE"] = project.variant.name.replace("-", "_")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the API meanwhile."""
        # The project's own tests have one.
        module = runpy.run_path(
            str(self._project.folder / "tests/delivery/support/proxy.py")
        )
        self.proxy = module["Proxy"]("127.0.0.1", self._broker.port)
        through = self._broker.url.replace(
            f":{self._broker.port}", f":{self.proxy.port}"
        )
        direct = {**self._settings, "BROKER_URL": self._broker.url}
        with ExitStack() as stack:
            stack.callback(self.proxy.refuse)
            api, self._port = self._project.start_api(
                **self._settings, BROKER_URL=through
            )
            stack.callback(api.stop)
            with ExitStack() as declaring:  # The worker declares the queues.
                for kind in ("worker", "relay"):
                    declaring.callback(self._project.start(kind, **direct).stop)
                run_load(self._port, "POST", TASK, requests=1)
                self._stamps.wait_for(0)
            relay = self._project.start("relay", **self._settings, BROKER_URL=through)
            stack.callback(relay.stop)
            for path in (PLAIN, TWO_ROWS, TASK):
                self.measure(path)
            yield

    def measure(self, path: str, seconds: float = 0) -> Figures:
        """Send requests one at a time, for the latency, then eight at a time, for the throughput.

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
        with service.running():
            _bench_variant(lab, result, variant, service)
    return result


def _bench_variant(
    lab: Lab, result: Result, variant: Variant, service: Service
) -> None:
    is_async = variant.answers["engine"] == "arq"
    direct = [THREAD] if is_async else [THREAD, LOOP]
    states: dict[str, Callable[[], None]] = {
        "up": service.proxy.accept,
        "refusing": service.proxy.refuse,
        "hanging": service.proxy.hang,
    }
    taken: dict[tuple[str, str], list[Figures]] = {}
    for _ in range(lab.scale.repetitions):
        for state, enter in states.items():
            enter()
            if state == "up":
                # The relay publishes again a second after it could not.
                time.sleep(1.5)
            without = [PLAIN, TWO_ROWS] if state == "up" else []
            for path in (*without, TASK, *direct):
                seconds = 0 if path not in direct or state == "up" else lab.scale(4, 2)
                taken.setdefault((state, path), []).append(
                    service.measure(path, seconds)
                )
        service.proxy.accept()

    def compare(
        what: str,
        key: tuple[str, str],
        against: str,
        reference: tuple[str, str],
        goals: dict[str, Goal | None],
    ) -> list[Row]:
        return [
            result.add(
                f"{variant.name}, {what}, {metric}",
                against,
                unit,
                [figures[metric] for figures in taken[key]],
                [figures[metric] for figures in taken[reference]],
                goals.get(metric),
            )
            for metric, unit in METRICS.items()
        ]

    compare("with a task", ("up", TASK), WITHOUT, ("up", PLAIN), _WITH_TASK)
    compare("with a second row", ("up", TWO_ROWS), WITHOUT, ("up", PLAIN), {})
    for state in ("refusing", "hanging"):
        compare(
            f"broker {state}", (state, TASK), "broker up", ("up", TASK), _BROKER_AWAY
        )
    for path in direct:
        how = (
            "awaited"
            if is_async
            else "in a thread"
            if path == THREAD
            else "on the loop"
        )
        for state in states:
            name = f"the engine called {how}, broker {state}"
            compare(
                f"with a task, broker {state}", (state, TASK), name, (state, path), {}
            )
            failed = max(figures["failed"] for figures in taken[state, path])
            if failed:
                result.notes.append(
                    f"{variant.name}, {name}: {failed:.0%} of its requests failed."
                )
