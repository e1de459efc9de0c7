"""Write the page of results: what was found, then every run, and what was done."""

import os
import textwrap
from collections.abc import Sequence
from pathlib import Path

from generator import drawing
from generator.drill.inside.faults import FAULTS
from generator.drill.picture import draw
from generator.drill.references import BACKGROUND_TASKS, Setting
from generator.drill.report import (
    COLUMNS,
    damages,
    figures,
    heading,
    latest,
    outcome,
    verdict,
)
from generator.drill.session import Result
from generator.markdown import table

INTRODUCTION = """\
# Drills

What becomes of background tasks when something breaks. `musthappen drill` starts a
generated project as its Procfile does, with a real database and, if it has one, a real
broker. It sends requests, breaks something, waits until everything has settled, and
counts.
"""

LINKS = """\
Below: {compared}[every run](#every-run), [the faults](#the-faults),
[how a run is judged](#how-a-run-is-judged) and [what was drilled](#what-was-drilled).
`musthappen drill` writes this page and its picture. Do not edit them.
"""

COMPARED = "[with and without a ledger](#with-and-without-a-ledger), "

LEGEND = """\
*Lost* tasks were answered with 2xx, and have had no effect when nothing happens any
more. *Doubled* orders have more than one effect. *Stranded* orders were committed, but
the request got no 2xx, and no task does the work.
"""

COMPARISON = """\
## With and without a ledger

The same load and the same faults. The references are small services as one writes them
without a ledger: the request commits its order, hands the task to the engine with the
engine's own client, and answers. They run in the same environment and on the same
servers, and try a failed task again a second later. Their code is in
`generator/drill/references/services`. What they lose is counted, but not judged. Beside
FastAPI's `BackgroundTasks` stands a project without a broker, whose API runs its own
tasks.

Messages *left in the broker* are those that it still holds when nothing happens any
more. Celery on Redis delivers them an hour later by default; the drill does not wait
for that.
"""

RUNS = """\
## Every run

*again*: tasks that were started more than once. *effects -/+*: effects in the database
that are missing, and that are doubled; for a reference, missing from all orders that
were committed. *back after*: the time from the fault to the next start of a task that
it interrupted, the median and the longest. *errors* (of the API) and *p99*: before,
during and after the fault.
"""

JUDGED = """\
## How a run is judged

A run breaks a promise when

- a task is lost: answered with 2xx but not recorded, or recorded and never ended;
- a good task fails, or a poisonous one does not;
- an effect in the database is missing or doubled;
- an interrupted task runs again later than five seconds after the lease, or after two
  leases if its worker is frozen and keeps its connections. Interruptions that overlap,
  and a database that is away, are left out, so that this is judged only for
  {judged};
- the API answers with an error although neither it nor the database was touched;
- without a broker, the p99 of the API's answers is more than 1.5 times what it was, and
  20 ms more, for the machine's own noise. This is judged from 100 requests on.
"""


def write(results: Sequence[Result], path: Path) -> None:
    """Write the page, and its picture beside it; of a pair's runs, the last counts."""
    runs = latest(results)
    picture = path.with_suffix(".svg")
    picture.write_text(draw(runs))

    tables: dict[str, list[Result]] = {}
    for result in runs:
        tables.setdefault(heading(result), []).append(result)

    comparison = _comparison(runs)
    sections = [
        INTRODUCTION,
        *_findings(runs),
        f"![What became of the tasks, by fault and target]({picture.name})\n",
        LINKS.format(compared=COMPARED if comparison else ""),
        *comparison,
        RUNS,
        *(_section(*each) for each in tables.items()),
        _faults(),
        JUDGED.format(judged=", ".join(f"`{name}`" for name in _with_leases())),
        _facts(runs),
    ]
    path.write_text("\n".join(sections))


def check(plain: Path | None, *pictured: Path | None) -> None:
    """Make sure that the files can be written, and drawn, before hours of drills.

    Raises:
        OSError: One of them cannot be written.
        Refusal: What draws pictures is not installed.
    """
    for path in filter(None, (plain, *pictured)):
        if not os.access(path.parent, os.W_OK):
            raise PermissionError(f"{path.parent} cannot be written to")

    if any(pictured):
        drawing.check()


def _findings(results: Sequence[Result]) -> list[str]:
    """Return what was found, in a sentence and a table."""
    ours = [result for result in results if not result.is_reference]
    references = [result for result in results if result.is_reference]
    groups = {"with the ledger": ours}
    for result in references:
        title = result.reference.title if result.reference else result.target
        groups.setdefault(f"without: {title}", []).append(result)

    broken = sum(bool(result.broken) for result in ours)
    kept = "every promise was kept" if not broken else f"{broken} broke a promise"
    sentences = f"**In {len(ours)} runs of generated projects, {kept}.**"
    if references:
        harmed = sum(bool(damages(result)) for result in references)
        sentences += (
            f" In {harmed} of {len(references)} runs without a ledger, tasks were lost,"
            " doubled or stranded."
        )

    head = ["", "runs", "answered", "lost", "doubled", "stranded"]
    rows = [[name, *_totals(group)] for name, group in groups.items() if group]
    totals = table(head, rows, numbers=range(1, len(head)))
    return [f"{textwrap.fill(sentences, 88)}\n", totals, LEGEND]


def _totals(results: Sequence[Result]) -> list[str]:
    names = ("answered", "lost", "effects_doubled", "stranded")
    sums = [sum(r.figures.get(name) or 0 for r in results) for name in names]
    return [f"{number:,}" for number in (len(results), *sums)]


def _comparison(results: Sequence[Result]) -> list[str]:
    """Return a table of references' runs with ours beside them, if there are any."""
    pairs = dict.fromkeys(
        (fault, _variant(each))
        for fault in FAULTS
        for each in results
        if each.is_reference and each.fault == fault
    )
    if not pairs:
        return []

    runs = {
        (each.fault, BACKGROUND_TASKS, None): each
        for each in results
        if each.database == "sqlite"
    } | {
        (each.fault, _variant(each), each.reference and each.reference.setting): each
        for each in results
        if each.database != "sqlite"
    }
    rows = [
        [*pair, *(_cell(runs.get((*pair, setting))) for setting in (None, *Setting))]
        for pair in pairs
    ]

    alone = ["alone, safest settings", "alone, defaults"]
    return [COMPARISON, table(["fault", "engine", "with the ledger", *alone], rows)]


def _variant(result: Result) -> str:
    """Return the variant that was drilled, or stands beside the reference."""
    return result.reference.beside if result.reference else result.target


def _cell(result: Result | None) -> str:
    if result is None:
        return "-"
    text = f"**{outcome(result)}**" if damages(result) else outcome(result)
    return f"{text} ({result.figures.get('answered', 0)} answered)"


def _section(name: str, results: Sequence[Result]) -> str:
    rows = []
    for result in results:
        text = verdict(result).plain
        if result.broken or damages(result):
            text = f"**{text}**"
        rows.append([result.fault, *figures(result), text])

    numbers = range(1, len(COLUMNS) + 1)
    return f"### {name}\n\n{table(['fault', *COLUMNS, 'verdict'], rows, numbers)}"


def _faults() -> str:
    rows = [[fault.name, fault.title, fault.where] for fault in FAULTS.values()]
    return (
        f"## The faults\n\n{table(['fault', 'what is done', 'where it applies'], rows)}"
    )


def _with_leases() -> list[str]:
    return [fault.name for fault in FAULTS.values() if fault.leases]


def _facts(results: Sequence[Result]) -> str:
    """Return on which machines, with which settings and versions was drilled."""
    settings = [result.settings for result in results]
    tasks = {str(each["tasks"] or "1000 (everything: 10000)") for each in settings}
    rates = {f"{each['rate']:g}" for each in settings}
    leases = {f"{each['lease']:g} s" for each in settings}
    seeds = {str(each["seed"]) for each in settings}

    days = sorted(result.date[:10] for result in results)
    versions: dict[str, set[str]] = {}
    for result in results:
        for name, version in result.versions.items():
            versions.setdefault(name, set()).add(version)

    facts = [
        " to ".join(dict.fromkeys((days[0], days[-1]))),
        *dict.fromkeys(result.machine for result in results),
        f"{_either(tasks)} tasks a run, {_either(rates)} a second",
        f"lease {_either(leases)}",
        f"seed {_either(seeds)}",
        *(f"{name} {_either(found)}" for name, found in versions.items()),
    ]
    listed = "".join(f"- {fact}\n" for fact in facts)
    return f"## What was drilled\n\n{listed}"


def _either(found: set[str]) -> str:
    return " or ".join(sorted(found))
