"""Measure what a backlog costs that waits in a healthy broker."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from benchmarks.benchmark import Benchmark, Highlight, Requirement
from benchmarks.figures import Goal, Result, median_ratio
from benchmarks.lab import Lab, Project
from benchmarks.ledger import Size, fill
from benchmarks.ours import WARM_UP, Ours
from benchmarks.picture import Panel
from benchmarks.processes import Process
from benchmarks.stamps import Stamps

INTRODUCTION = """\
Tasks that wait in a healthy broker for ten minutes, with a relay and no worker, all
variants with a broker side by side. No task may be published twice, and the relay
should have hardly any work. The messages are counted every second.
"""

WAITING = "waiting tasks"
AT_MOST = ", at most"
ITS_RELAY = "its relay"
MESSAGES = Goal(at_most=1.1)
RELAY = Goal(at_most=5, of_figure=True)


def bench(lab: Lab) -> Result:
    """Let the variants wait side by side, once, whatever repetitions are asked for."""
    result = Result("backlog")
    number, seconds = lab.scale(100_000, 200), lab.scale(600, 1)
    stamps = Stamps(lab.folder / "backlog.stamps", WARM_UP)
    ours = {
        variant.name: Ours(lab, lab.project(variant.name), stamps, number)
        for variant in lab.brokered
    }

    with ExitStack() as stack:
        relays = {name: _start(lab, name, ours[name], number, stack) for name in ours}

        def watch(name: str) -> tuple[int, float]:
            settings = ours[name].settings
            return _watch(lab.project(name), relays[name], seconds, settings)

        with ThreadPoolExecutor(len(ours)) as pool:
            watched = dict(zip(ours, pool.map(watch, ours), strict=True))

    for name, (most, share) in watched.items():
        result.add(f"{name}{AT_MOST}", WAITING, "messages", [most], [number], MESSAGES)
        result.add(f"{name}, {ITS_RELAY}", "", "% of a core", [100 * share], goal=RELAY)
    result.versions = lab.postgresql.version
    return result


def _start(lab: Lab, name: str, ours: Ours, number: int, stack: ExitStack) -> Process:
    """Start a relay, and wait until it has published what is due in its ledger."""
    fill(lab.postgresql, ours.url, Size(number, "due"))

    relay = lab.project(name).start("relay", **ours.settings)
    stack.callback(relay.stop)
    ours.wait_until_published(within=600)
    return relay


def _watch(
    project: Project, relay: Process, seconds: int, settings: dict[str, str]
) -> tuple[int, float]:
    """Return the most messages that waited, and how much of a core the relay used."""
    before, began = relay.processor_seconds(), time.monotonic()
    most: int = project.measure("depth", seconds, **settings)
    used = relay.processor_seconds() - before
    return most, used / (time.monotonic() - began)


def _highlights(result: Result) -> list[Highlight]:
    rows = [row for row in result.rows if row.against == WAITING]
    most = max(rows, key=median_ratio)
    variant = most.what.removesuffix(AT_MOST)
    return [Highlight(f"a backlog that waits; at worst {variant}", most)]


def _picture(result: Result) -> list[Panel]:
    shares = {
        row.what.removesuffix(f", {ITS_RELAY}"): {"its relay": row.figure}
        for row in result.rows
        if row.what.endswith(ITS_RELAY)
    }
    title = "How busy a relay is while a backlog waits in the broker"
    goal = (f"goal: at most {RELAY.at_most} %", RELAY.at_most or 0.0)
    return [Panel(title, "% of a core; less is better", shares, goal)]


BENCHMARK = Benchmark(
    name="backlog",
    title="A backlog that waits",
    introduction=INTRODUCTION,
    run=bench,
    needs_broker=True,
    requirements=(
        Requirement(
            "at most 1.1 messages for each waiting task",
            lambda row: row.against == WAITING,
        ),
        Requirement(
            "the relay needs under 5 % of a core beside them",
            lambda row: row.what.endswith(ITS_RELAY),
        ),
    ),
    highlights=_highlights,
    picture=_picture,
)
