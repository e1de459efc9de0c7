"""How long an idle system takes from the enqueue of a task to its first line."""

import json
import random
import statistics
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from benchmarks.end_to_end import Bare
from benchmarks.figures import Goal, Result, percentile
from benchmarks.lab import Lab, Project
from benchmarks.stamps import Stamps

GAP_SECONDS = 0.15
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
    """Enqueue tasks one by one through the API; return how many milliseconds each waited."""
    _post(port, 0)
    stamps.wait_for(0)
    stamps.clear()
    sent = [_post(port, index, GAP_SECONDS) for index in range(number)]
    return waits(sent, stamps, number)


def waits(sent: list[float], stamps: Stamps, number: int) -> list[float]:
    """Return how many milliseconds passed between each sending and its task's first line."""
    stamps.wait_for(number - 1)
    return [(ran - at) * 1000 for at, ran in zip(sent, stamps.read(), strict=False)]


def bench(lab: Lab) -> Result:
    """Measure each variant, its bare engine, and the embedded executor, in turns."""
    result = Result("start")
    number = lab.scale(60, 5)
    stamps = Stamps(lab.folder / "start.stamps", number)
    for variant in lab.variants:
        project = lab.project(variant.name)
        broker = lab.broker(variant.name).url
        settings = {"DATABASE_URL": lab.database(project), "BROKER_URL": broker}
        settings |= stamps.settings
        bare = Bare(lab, project, stamps, number)
        medians = result.add(
            f"{variant.name}, median", "its engine alone", "ms", [], goal=MEDIAN
        )
        p99s = result.add(f"{variant.name}, p99", "its engine alone", "ms", [])
        for _ in range(lab.scale.repetitions):
            worker = bare.start_worker()
            try:
                bare.warm_up(worker)
                alone = waits(bare.publish(number, GAP_SECONDS), stamps, number)
            finally:
                worker.stop()
            with running(project, "worker", "relay", **settings) as port:
                ours = ask(port, stamps, number)
            medians.figures.append(statistics.median(ours))
            medians.references.append(statistics.median(alone))
            p99s.figures.append(percentile(ours, 0.99))
            p99s.references.append(percentile(alone, 0.99))
    _bench_embedded(lab, result, stamps, number)
    return result


def _bench_embedded(lab: Lab, result: Result, stamps: Stamps, number: int) -> None:
    project = lab.project(lab.variants[0].name)
    urls = {
        "PostgreSQL": lab.database(project),
        "SQLite": f"sqlite+aiosqlite:///{lab.folder}/embedded.db",
    }
    for name, url in urls.items():
        medians = result.add(f"embedded on {name}, median", "", "ms", [], goal=MEDIAN)
        p99s = result.add(f"embedded on {name}, p99", "", "ms", [])
        for _ in range(lab.scale.repetitions):
            with running(project, DATABASE_URL=url, **stamps.settings) as port:
                ours = ask(port, stamps, number)
            medians.figures.append(statistics.median(ours))
            p99s.figures.append(percentile(ours, 0.99))


def _post(port: int, index: int, gap: float = 0) -> float:
    time.sleep(gap * random.uniform(0.5, 1.5))  # noqa: S311 - no lockstep with what polls
    url = f"http://127.0.0.1:{port}/row-and-task?index={index}"
    with urllib.request.urlopen(urllib.request.Request(url, method="POST")) as answer:
        return float(json.load(answer)["at"])
