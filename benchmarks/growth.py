"""Measure how the ledger's statements slow down with the tasks that it holds."""

import re
from collections.abc import Mapping

from benchmarks.benchmark import Benchmark, Highlight, Requirement
from benchmarks.figures import Goal, Result, Row, Spread, median_ratio
from benchmarks.lab import Lab, Project
from benchmarks.ledger import EMPTY, Size, fill
from benchmarks.picture import Panel

WITHIN = Goal(at_most=1.2)

INDEXED = "relay queries that read a partial index"

Measured = dict[Size, list[dict[str, float]]]
"""Milliseconds by operation, of each repetition."""


def bench(lab: Lab) -> Result:
    """Fill a database per size, and measure them in turns."""
    result = Result("growth")
    project = lab.project(lab.brokered[0].name)

    finished = [
        Size(number, "finished") for number in lab.scale.sizes(100_000, 5_000_000)
    ]
    small, large = lab.scale.sizes(1_000, 1_000_000)
    comparisons = [
        *((size, Size(0, "finished")) for size in finished),
        (Size(large, "published"), Size(small, "published")),
        (Size(large, "due"), Size(small, "due")),
    ]

    sizes = dict.fromkeys(
        size for comparison in comparisons for size in reversed(comparison)
    )
    urls = {size: _fill(lab, project, size) for size in sizes}
    measured = _measure(lab, project, urls)
    for size, reference in comparisons:
        _compare(result, measured, size, reference)

    largest = finished[-1]
    plans = project.measure("growth", "explain", 0, DATABASE_URL=urls[largest])
    _add_plans(result, plans, largest)

    result.versions = lab.postgresql.version
    return result


def _fill(lab: Lab, project: Project, size: Size) -> str:
    url = lab.database(project)
    fill(lab.postgresql, url, size)
    lab.postgresql.query(url, "VACUUM ANALYZE tasks", "CHECKPOINT")
    return url


def _measure(lab: Lab, project: Project, urls: Mapping[Size, str]) -> Measured:
    measured: Measured = {size: [] for size in urls}
    number = lab.scale(500, 20)
    for _ in range(lab.scale.repetitions):
        for size, url in urls.items():
            figures = project.measure("growth", "measure", number, DATABASE_URL=url)
            measured[size].append(figures)

    return measured


def _compare(result: Result, measured: Measured, size: Size, reference: Size) -> None:
    for operation in measured[size][0]:
        result.add(
            f"{operation}, {size}",
            str(reference),
            "ms",
            [figures[operation] for figures in measured[size]],
            [figures[operation] for figures in measured[reference]],
            WITHIN if size.kind == "finished" else None,
        )


def _add_plans(result: Result, plans: Mapping[str, list[str]], size: Size) -> None:
    """Add how many of the relay's queries read a partial index, and how each reads."""
    indexed = 0
    for name, lines in plans.items():
        found = [
            line.strip(" ->").partition("  (")[0]
            for line in lines
            if " on tasks" in line
        ]
        # A look reads each lane the same way, under another name.
        scans = list(dict.fromkeys(re.sub(r" tasks_\d+$", "", scan) for scan in found))
        indexed += any("ix_tasks_" in scan for scan in scans)
        result.notes.append(f"`{name}` with {size}: {' · '.join(scans)}")

    all_of_them = Goal(at_least=1)
    result.add(INDEXED, "all of them", "queries", [indexed], [len(plans)], all_of_them)


def _after_years(result: Result) -> list[Row]:
    """Return the rows of a ledger that holds the most finished tasks."""
    rows = [row for row in result.rows if row.against == EMPTY]
    largest = rows[-1].what.rpartition(", ")[2]
    return [row for row in rows if row.what.endswith(f", {largest}")]


def _highlights(result: Result) -> list[Highlight]:
    dearest = max(_after_years(result), key=median_ratio)
    operation, _, size = dearest.what.rpartition(", ")
    return [Highlight(f"{operation}, beside {size} tasks; at worst", dearest)]


def _picture(result: Result) -> list[Panel]:
    groups: dict[str, dict[str, Spread]] = {}
    for row in _after_years(result):
        operation, _, size = row.what.rpartition(", ")
        groups[operation] = {f"{size} tasks": row.figure}
        if row.reference:
            groups[operation][EMPTY] = row.reference

    title = "The ledger's statements in a full database and in an empty one"
    return [Panel(title, "ms; less is better", groups)]


BENCHMARK = Benchmark(
    name="growth",
    title="Growth",
    introduction="The ledger's own statements, in databases that hold so many tasks.\n",
    run=bench,
    needs_broker=True,
    requirements=(
        Requirement(
            "within 1.2 times from empty to 5 million finished rows",
            lambda row: row.what.endswith("finished"),
        ),
        Requirement(
            "relay queries use a partial index", lambda row: row.what == INDEXED
        ),
    ),
    highlights=_highlights,
    picture=_picture,
)
