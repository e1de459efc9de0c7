"""Writes the page: whether each goal is reached, the figures, and what they were taken on."""

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.chart import bars
from benchmarks.end_to_end import ALONE, LESS_SAFE, STREAM, TWO_STATEMENTS
from benchmarks.figures import Result, Row, Spread, short
from benchmarks.nice_to_have import CHECKED, PLAIN_THREAD
from benchmarks.request import WITHOUT
from benchmarks.suite import PROCESSORS

_HEAD = """# Performance

What the promise costs, each cost beside what one would pick instead, measured in turns in the same
run. `musthappen bench --json docs/performance.json --write docs/performance.md` measures and writes
this page; do not edit it. Figures are medians over the repetitions, with the lowest and the highest
in brackets; ratios are taken repetition by repetition. A figure from a machine that was busy with
other things says little; its ratio says more.
"""

_TITLES = {
    "end_to_end": "End to end",
    "request": "Request",
    "growth": "Growth",
    "backlog": "A backlog that waits",
    "start": "Start",
    "generation": "Generation",
    "nice_to_have": "Nice to have",
    "tests": "The tests",
}

_INTRODUCTIONS = {
    "end_to_end": "Trivial tasks through the broker and one worker service, with PostgreSQL at its"
    " default durability. A backlog waits in the broker; the rate is taken after the first tenth."
    " `its engine alone` is the same engine with the same processes at its safest settings, without"
    " a ledger, on the same broker. To Redis that means `appendfsync always`: like PostgreSQL, it"
    " flushes to the disk before it confirms. Flushing once a second, as in a generated"
    " `compose.yaml`, it may lose what it confirmed, and a bare engine its tasks. `its engine and"
    " two statements` adds the least that any ledger in PostgreSQL asks for, a claim and an end by"
    " one prepared statement each, and nothing else. Rows `from the first send` time an idle worker"
    " from the commit of all tasks, or from the first send, to the last end. procrastinate (sixteen"
    " tasks at a time) and PgQueuer (its defaults) run in one process. `bare SQL` claims and"
    " finishes by prepared statements from two processes.",
    "request": "A POST that writes one row, and enqueues a task or does not. The latency is that of"
    " requests one at a time, the throughput that of eight at a time. The relay publishes"
    " meanwhile, no worker runs. A proxy refuses, or accepts and stays silent, in the place of the"
    " broker. `with a second row` inserts one more row instead of the task: no outbox does less.",
    "growth": "The ledger's own statements, in databases that hold so many tasks.",
    "backlog": "Tasks that wait in a healthy broker for ten minutes, with a relay and no worker;"
    " all variants side by side. The messages are counted every second.",
    "start": "From the call of `enqueue` in an idle API to the first line of the task, the commit"
    " and the publish included; for the engine alone from the send.",
    "generation": "`copier copy` from a packed repository of one commit, as a command. The second"
    " floor is what Copier takes to write the same files when nothing in them or their names is to"
    " be decided.",
    "nice_to_have": "A `def` route is asked 50 times a second while 60 requests' CPU-heavy `def`"
    " tasks run, in one process; a late answer counts from its appointed time.",
    "tests": "`./test` on a machine that has its servers, four tests at a time. Below the figures,"
    " the slowest tests.",
}


@dataclass(frozen=True)
class Requirement:
    """What we hold ourselves to, in which rows, and how many of them must reach it."""

    text: str
    benchmark: str
    concerns: Callable[[Row], bool] = lambda _: True
    at_least: int | None = None  # All, if none.
    limit: Callable[[Sequence[Row]], str] = lambda _: ""


def _rates(rows: Sequence[Row], against: str) -> str:
    rates = [
        f"{row.what} {short(row.reference.median)}"
        for row in rows
        if row.against == against and row.reference
    ]
    return f"tasks/s, {against}: {', '.join(rates)}"


def _two_statements(rows: Sequence[Row]) -> str:
    """How much of its rate an engine keeps with the least that a ledger asks for."""
    alone = {row.what: row.references for row in rows if row.against == ALONE}
    kept = []
    for row in rows:
        if row.against == TWO_STATEMENTS:
            pairs = zip(row.references, alone[row.what], strict=True)
            kept.append(
                f"{row.what} {short(median(least / bare for least, bare in pairs))}"
            )
    return f"the engine and two statements a task, nothing else: {', '.join(kept)}"


def _second_row(rows: Sequence[Row]) -> str:
    spans = []
    for metric in ("median", "throughput"):
        ending = f"second row, {metric}"
        seconds = [
            row.ratio.median for row in rows if row.what.endswith(ending) and row.ratio
        ]
        spans.append(f"{metric} {short(min(seconds))} to {short(max(seconds))}")
    return f"with a second row instead of a task: {', '.join(spans)}"


def _ratio(rows: Sequence[Row], what: str) -> str:
    """What the least costs that would do the same."""
    [row] = [row for row in rows if row.what.endswith(what)]
    return f"{what}: {row.ratio}"


def _floor(rows: Sequence[Row]) -> str:
    floors = [(row.what, row.reference) for row in rows if row.goal and row.reference]
    return "alone: " + ", ".join(
        f"{what} {short(floor.median)}" for what, floor in floors
    )


def _processor_time(rows: Sequence[Row]) -> str:
    row = next(row for row in rows if row.what == PROCESSORS)
    return f"its processes keep each core busy for {short(row.figure.median)} min"


def _plain_files(rows: Sequence[Row]) -> str:
    floors = [row.reference.median for row in rows if not row.goal and row.reference]
    return (
        f"the same files as plain text: {short(min(floors))} to {short(max(floors))} s"
    )


REQUIREMENTS = (
    Requirement(
        "at least 0.6 of the bare engine for Celery and ARQ, 0.5 for Dramatiq",
        "end_to_end",
        lambda row: row.against == ALONE,
        limit=_two_statements,
    ),
    Requirement(
        "Dramatiq: at least 1,800 tasks a second",
        "end_to_end",
        lambda row: row.against == "1,800 a second",
        limit=partial(_rates, against=TWO_STATEMENTS),
    ),
    Requirement(
        "ahead of procrastinate on three variants",
        "end_to_end",
        lambda row: row.against == "procrastinate",
        at_least=3,
    ),
    Requirement(
        "ahead of PgQueuer on three variants",
        "end_to_end",
        lambda row: row.against == "pgqueuer",
        at_least=3,
        limit=partial(_rates, against=TWO_STATEMENTS),
    ),
    Requirement(
        "with a task at most 1.3 times the same request without",
        "request",
        lambda row: row.against == WITHOUT,
        limit=_second_row,
    ),
    Requirement(
        "unchanged (within 1.2) when the broker refuses or hangs",
        "request",
        lambda row: row.against == "broker up",
    ),
    Requirement(
        "within 1.2 times from empty to 5 million finished rows",
        "growth",
        lambda row: row.what.endswith("finished"),
    ),
    Requirement(
        "relay queries use a partial index",
        "growth",
        lambda row: row.what.startswith("relay queries"),
    ),
    Requirement(
        "at most 1.1 messages for each waiting task",
        "backlog",
        lambda row: row.against == "waiting tasks",
    ),
    Requirement(
        "the relay needs under 5 % of a core beside them",
        "backlog",
        lambda row: row.what.endswith("its relay"),
    ),
    Requirement(
        "median under 50 ms on every engine, or the engine's own floor beside it",
        "start",
        limit=_floor,
    ),
    Requirement("at most twice Copier's floor", "generation", limit=_plain_files),
    Requirement(
        "a request that enqueues: at most 1.5 times one with bare `add_task`",
        "nice_to_have",
        lambda row: row.what.startswith("a request"),
    ),
    Requirement(
        "the call of `enqueue` alone: at most 1.5 times that of `add_task`",
        "nice_to_have",
        lambda row: row.what.startswith("the call"),
        limit=partial(_ratio, what=CHECKED),
    ),
    Requirement(
        "`def` routes keep their p99 within twice idle beside CPU-heavy `def` tasks",
        "nice_to_have",
        lambda row: row.what.startswith("a def route"),
        limit=partial(_ratio, what=f"{PLAIN_THREAD}, p99"),
    ),
    Requirement(
        "the whole test command within 15 minutes", "tests", limit=_processor_time
    ),
)


def write(path: Path, results: Sequence[Result]) -> None:
    """Write the page, and its pictures beside it."""
    by_name = {result.name: result for result in results}
    parts = [_HEAD, _machine(results), _verdicts(by_name)]
    for result in results:
        parts += [f"## {_TITLES[result.name]}\n", _INTRODUCTIONS[result.name] + "\n"]
        for name, picture in _pictures(result).items():
            path.with_name(name).write_text(picture)
            parts.append(f"![{_TITLES[result.name]}]({name})\n")
        parts += [_figures(result), *([_list(result.notes)] if result.notes else [])]
    path.write_text("\n".join(parts))


def _machine(results: Sequence[Result]) -> str:
    rows = [
        [
            _TITLES[result.name] + (" (quick: no figures)" if result.quick else ""),
            result.date,
            str(result.repetitions),
            short(result.load_before),
            f"{result.seconds:.0f} s",
        ]
        for result in results
    ]
    versions = {name: v for result in results for name, v in result.versions.items()}
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    cores = f"{os.cpu_count()} cores of {_processor()}, {platform.system()}"
    table = _table(
        ["benchmark", "measured", "repetitions", "load before it", "took"], rows
    )
    return f"On {cores}, servers, workers and load together. {listed}.\n\n{table}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _verdicts(results: Mapping[str, Result]) -> str:
    rows = []
    for requirement in REQUIREMENTS:
        if requirement.benchmark not in results:
            continue
        every = results[requirement.benchmark].rows
        judged = [
            row for row in every if row.holds is not None and requirement.concerns(row)
        ]
        if not judged:
            continue
        reached = [row for row in judged if row.holds]
        holds = len(reached) >= (requirement.at_least or len(judged))
        figures = [judge for row in judged if (judge := _judged(row))]
        low, high = min(s.median for s in figures), max(s.median for s in figures)
        shown = short(low) if low == high else f"{short(low)} to {short(high)}"
        rows.append(
            [
                _TITLES[requirement.benchmark],
                requirement.text,
                "**yes**" if holds else "**no**",
                f"{shown}; {len(reached)} of {len(judged)}",
                requirement.limit(every) if not holds else "",
            ]
        )
    head = [
        "benchmark",
        "must show",
        "reached",
        "figures; how many reach it",
        "limit, measured",
    ]
    return f"## What must hold\n\n{_table(head, rows)}"


def _judged(row: Row) -> Spread | None:
    return row.figure if row.goal and row.goal.of_figure else row.ratio


def _pictures(result: Result) -> dict[str, str]:
    if result.name == "end_to_end":
        groups: dict[str, dict[str, float]] = {}
        for row in result.rows:
            if row.reference and row.against not in (LESS_SAFE, STREAM):
                group = groups.setdefault(row.what, {"this project": row.figure.median})
                against = (
                    "bare SQL" if row.against.startswith("bare SQL") else row.against
                )
                group[against] = row.reference.median
        title = "A backlog of trivial tasks, one worker service"
        return {"performance-end-to-end.svg": bars(title, "tasks a second", groups)}
    if result.name == "start":
        groups = {}
        for row in result.rows:
            if row.what.endswith("median"):
                group = groups.setdefault(row.what.removesuffix(", median"), {})
                group["this project"] = row.figure.median
                if row.reference:
                    group[row.against] = row.reference.median
        return {
            "performance-start.svg": bars(
                "From enqueue to the first line", "ms", groups
            )
        }
    return {}


def _figures(result: Result) -> str:
    rows = [
        [
            row.what,
            f"{row.figure} {row.unit}",
            row.against,
            f"{row.reference} {row.unit}" if row.reference else "",
            str(row.ratio or ""),
            str(row.goal or ""),
            {True: "yes", False: "**no**", None: ""}[row.holds],
        ]
        for row in result.rows
    ]
    head = ["", "figure", "against", "reference", "ratio", "goal", "reached"]
    return _table(head, rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _list(notes: Sequence[str]) -> str:
    return "".join(f"- {note}\n" for note in notes)
