"""Writes the page of results: what was drilled, on what, and what came of it."""

import os
from collections.abc import Sequence
from pathlib import Path

from generator.drill.inside.faults import FAULTS
from generator.drill.picture import column, draw
from generator.drill.references import BACKGROUND_TASKS, Setting
from generator.drill.report import COLUMNS, damages, figures, outcome, verdict
from generator.drill.session import Result

INTRODUCTION = """\
# Drills

Real processes and real signals: `musthappen drill` starts a generated project as its Procfile does,
with a database and a broker, sends requests, breaks something, waits until everything has settled,
and counts. This page is written by that command; do not edit it.

A promise is broken when a task is lost (answered with 2xx but not recorded, or recorded and never
ended), when a good task fails or a poisonous one does not, when a database effect is missing or
doubled, when an interrupted task runs again later than the lease (two leases, if its worker is
frozen and keeps its connections) and five seconds (not judged where interruptions overlap or the
database is away: worker-killed-busy, poison, api-killed, database-restarted, everything), when the
API answers with an error although neither it nor the database was touched, or when, without a
broker, p99 of its responses is more than 1.5 times what it was (and 20 ms, for the machine's own
noise; judged from 100 requests).
"""

COMPARISON = """\
## What the ledger buys

The same load and the same faults, with and without a ledger. The references are small services as
one writes them without one: the request commits its order, hands the task to the engine with the
engine's own client, and answers. They run in the same environment and on the same servers, and try
a failed task again a second later: `generator/drill/references/services`. They are counted, not judged.
Beside FastAPI's `BackgroundTasks` stands a project without a broker, whose API runs its own tasks.

*lost*: answered with 2xx, and without effect when nothing happens any more. *left in the broker*:
messages that it still holds then; Celery on Redis delivers these an hour later by default, which is
not waited for. *doubled*: orders with more than one effect. *stranded*: orders that were committed,
while the request got no 2xx and no task does the work.
"""

LEGEND = """\
*again*: tasks that were started more than once. *effects -/+*: database effects, missing and
doubled; of a reference, missing from all orders that were committed. *back after*: from the fault
to the next start of a task that it interrupted, median and longest. *errors* (of the API) and
*p99*: before, during and after the fault.
"""


def write(results: Sequence[Result], path: Path) -> None:
    """Write the page, and its picture beside it; of runs of the same pair, the last one counts."""
    latest = list(
        {(_heading(result), result.fault): result for result in results}.values()
    )
    order = list(FAULTS)
    latest.sort(key=lambda result: order.index(result.fault))
    picture = path.with_suffix(".svg")
    picture.write_text(draw(latest))
    columns: dict[str, list[Result]] = {}
    for result in latest:
        columns.setdefault(_heading(result), []).append(result)
    sections = [
        INTRODUCTION,
        f"![Targets and faults]({picture.name})\n",
        _facts(latest),
        *_comparison(latest),
        LEGEND,
        *(_section(*each) for each in columns.items()),
        _faults(),
    ]
    path.write_text("\n".join(sections))


def _facts(results: Sequence[Result]) -> str:
    dates = sorted(result.date[:10] for result in results)
    machines = dict.fromkeys(result.machine for result in results)
    versions: dict[str, set[str]] = {}
    for result in results:
        for name, version in result.versions.items():
            versions.setdefault(name, set()).add(version)
    leases = sorted({f"{result.settings['lease']:g} s" for result in results})
    seeds = sorted({str(result.settings["seed"]) for result in results})
    tasks = sorted(
        {
            str(result.settings["tasks"] or "1000 (everything: 10000)")
            for result in results
        }
    )
    rates = sorted({f"{result.settings['rate']:g}" for result in results})
    ours = [result for result in results if not result.is_reference]
    broken = sum(bool(result.broken) for result in ours)
    facts = [
        f"{len(ours)} runs of ours, {broken} of them with a broken promise",
        f"{len(results) - len(ours)} runs of references",
        " to ".join(sorted({dates[0], dates[-1]})),
        *machines,
        f"{' or '.join(tasks)} tasks a run, {' or '.join(rates)} a second",
        f"lease {', '.join(leases)}",
        f"seed {', '.join(seeds)}",
        ", ".join(
            f"{name} {' and '.join(sorted(found))}" for name, found in versions.items()
        ),
    ]
    return f"{'; '.join(facts)}.\n"


def _heading(result: Result) -> str:
    return result.target if result.is_reference else column(result)


def _comparison(results: Sequence[Result]) -> list[str]:
    """Return a table of the runs of references, and of ours beside them, if there are any."""
    pairs = dict.fromkeys(
        (each.fault, column(each)) for each in results if each.is_reference
    )
    if not pairs:
        return []
    rows = {
        (each.fault, BACKGROUND_TASKS, None): each
        for each in results
        if each.database == "sqlite"
    } | {
        (each.fault, column(each), each.reference and each.reference.setting): each
        for each in results
    }
    lines = [
        COMPARISON,
        "| fault | engine | with the ledger | alone, safest settings | alone, defaults |",
        "| --- | --- | --- | --- | --- |",
    ]
    for pair in pairs:
        cells = (_cell(rows.get((*pair, setting))) for setting in (None, *Setting))
        lines.append(f"| {' | '.join((*pair, *cells))} |")
    return ["\n".join([*lines, ""])]


def _cell(result: Result | None) -> str:
    if result is None:
        return "-"
    text = f"**{outcome(result)}**" if damages(result) else outcome(result)
    return f"{text} ({result.figures.get('answered', 0)} answered)"


def _section(name: str, results: Sequence[Result]) -> str:
    lines = [
        f"## {name}\n",
        f"| fault | {' | '.join(COLUMNS)} | verdict |",
        f"| --- | {'---: | ' * len(COLUMNS)}--- |",
    ]
    for result in results:
        text = verdict(result).plain
        if result.broken or damages(result):
            text = f"**{text}**"
        lines.append(f"| {result.fault} | {' | '.join(figures(result))} | {text} |")
    return "\n".join([*lines, ""])


def _faults() -> str:
    rows = [
        f"| {fault.name} | {fault.title} | {fault.where} |" for fault in FAULTS.values()
    ]
    heading = [
        "## The faults\n",
        "| fault | what is done | where it applies |",
        "| --- | --- | --- |",
    ]
    return "\n".join([*heading, *rows, ""])


def check(path: Path) -> None:
    """Make sure that the page can be written before hours of drills.

    Raises:
        OSError: It cannot.
    """
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"{path.parent} cannot be written to")
