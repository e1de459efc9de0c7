"""Run `musthappen drill`: plan what is done to what, do it, and show the outcome."""

import sys
import tempfile
from collections.abc import Collection, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from generator.drill import page, picture, report
from generator.drill.inside.faults import FAULTS
from generator.drill.inside.order import Settings
from generator.drill.references import REFERENCES
from generator.drill.report import Progress
from generator.drill.session import Result
from generator.drill.session import drill as drill_copy
from generator.drill.target import Target, find_server, find_targets, prepare
from generator.options import Template
from generator.rendering import find_template
from hooks import before
from hooks.refusal import Refusal

WIDTH = 200


class Database(StrEnum):
    """Where the ledger is."""

    POSTGRESQL = "postgresql"
    SQLITE = "sqlite"


# What is no terminal, a log or a file, can scroll.
console = Console(width=None if sys.stdout.isatty() else WIDTH)

# The options, in the order of the signature below.
Targets = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="TARGET",
        help="A variant, a reference, or the path of a project (a copy is drilled);"
        " all variants and references when none is named.",
    ),
]
Faults = Annotated[
    list[str] | None,
    typer.Option("--fault", help="Only this fault; can be repeated."),
]
ShowList = Annotated[
    bool, typer.Option("--list", help="List faults and references, and end.")
]
Tasks = Annotated[
    int | None, typer.Option(min=1, help="Tasks per run. [1000; everything: 10000]")
]
Rate = Annotated[float, typer.Option(min=1, help="Requests a second.")]
Seed = Annotated[int, typer.Option(help="Of the load and of what is random.")]
Duration = Annotated[
    float, typer.Option(min=10, help="Seconds that the fault `everything` lasts.")
]
Outage = Annotated[
    float, typer.Option(min=1, help="Seconds that a broker refuses, and hangs.")
]
Lease = Annotated[float, typer.Option(min=1, help="LEASE_SECONDS of the service.")]
Ledger = Annotated[
    Database, typer.Option(help="SQLite: no broker, the API runs its tasks itself.")
]
JsonFile = Annotated[
    Path | None,
    typer.Option(
        "--json", metavar="FILE", help="Write all results there as they come."
    ),
]
SvgFile = Annotated[
    Path | None, typer.Option("--svg", metavar="FILE", help="Draw the grid there.")
]
PageFile = Annotated[
    Path | None,
    typer.Option("--write", metavar="FILE", help="Write page and picture there."),
]
Earlier = Annotated[
    list[Path] | None,
    typer.Option(
        "--read", metavar="FILE", help="Show these results instead of a new drill."
    ),
]
Keep = Annotated[
    Path | None, typer.Option(help="Where to leave the copies, with their logs.")
]


def drill(
    targets: Targets = None,
    faults: Faults = None,
    show_list: ShowList = False,
    tasks: Tasks = None,
    rate: Rate = 40,
    seed: Seed = 1,
    duration: Duration = 300,
    outage: Outage = 30,
    lease: Lease = 10,
    database: Ledger = Database.POSTGRESQL,
    json_file: JsonFile = None,
    svg_file: SvgFile = None,
    page_file: PageFile = None,
    earlier: Earlier = None,
    keep: Keep = None,
    template: Template = None,
) -> None:
    """Break a running service in every way, and count what became of its tasks.

    A reference is a service without a ledger: what it loses is counted, and is no
    failure.
    """
    if show_list:
        console.print(_fault_table(), _reference_table(), sep="\n")
        return

    page.check(json_file, svg_file, page_file)

    if earlier:
        results = report.load(earlier)
    else:
        load = (database.value, tasks, rate, seed, duration, outage, lease)
        settings = Settings(*load)
        plan = _plan(targets, faults, settings, find_template(template))
        results = _drill(plan, settings, keep, json_file, find_template(template))

    console.print(report.summary(results))
    _write(results, json_file, svg_file, page_file)
    if any(result.broken for result in results):
        raise typer.Exit(1)


def _write(
    results: list[Result],
    json_file: Path | None,
    svg_file: Path | None,
    page_file: Path | None,
) -> None:
    if json_file:
        report.dump(results, json_file)

    if svg_file:
        svg_file.write_text(picture.draw(results))
    if page_file:
        page.write(results, page_file)


def _drill(
    plan: list[tuple[Target, list[str]]],
    settings: Settings,
    keep: Path | None,
    json_file: Path | None,
    template: Path,
) -> list[Result]:
    before.check_tools()
    if keep:
        for target, _ in plan:
            before.check_target(keep / target.name, template)

    with (
        tempfile.TemporaryDirectory(prefix="musthappen-") as scratch,
        Progress(console, sum(len(chosen) for _, chosen in plan)) as progress,
    ):

        def on_result(result: Result) -> None:
            progress.on_result(result)
            if json_file:  # Hours of drills may be interrupted.
                report.dump(progress.results, json_file)

        for target, chosen in plan:
            copy = (keep or Path(scratch)).resolve() / target.name
            progress.on_progress(target.name, "", "installing")
            prepare(target, copy, template)
            on_progress = partial(progress.on_progress, target.name)
            drill_copy(target, copy, chosen, settings, on_progress, on_result)

    return progress.results


def _plan(
    targets: list[str] | None,
    faults: list[str] | None,
    settings: Settings,
    template: Path,
) -> list[tuple[Target, list[str]]]:
    """Return what is done to which target; one that was not named may be left out.

    Raises:
        Refusal: A name is unknown, or none of these faults applies to a named target.
    """
    plan = []
    names = _find_faults(faults or [])
    for target in find_targets(targets or [], template):
        applying = _applying(names, target, settings)
        if targets and not applying:
            raise Refusal(
                f"none of these faults applies to {target.name} on {settings.database}"
            )
        if applying:
            plan.append((target, applying))

    if not plan:
        raise Refusal(f"none of these faults applies on {settings.database}")
    _check_programs({name for _, chosen in plan for name in chosen})
    return plan


def _check_programs(names: Collection[str]) -> None:
    for name in sorted(names):
        if FAULTS[name].needs_pgbouncer and find_server("pgbouncer") is None:
            raise Refusal(f"{name}: no PgBouncer: install pgbouncer")


def _find_faults(names: Sequence[str]) -> list[str]:
    """Return the named faults in the order of the list, or all when none is named."""
    if unknown := [name for name in names if name not in FAULTS]:
        raise Refusal(f"unknown fault {unknown[0]}: the faults are {', '.join(FAULTS)}")
    return [name for name in FAULTS if not names or name in names]


def _applying(names: Sequence[str], target: Target, settings: Settings) -> list[str]:
    is_reference = target.reference is not None
    return [
        name
        for name in names
        if FAULTS[name].applies(
            target.engine, settings.database, is_reference=is_reference
        )
    ]


def _fault_table() -> Table:
    table = Table("fault", "what is done", "where it applies")
    for fault in FAULTS.values():
        table.add_row(fault.name, fault.title, fault.where)
    return table


def _reference_table() -> Table:
    table = Table("reference", "what runs, without a ledger")
    for reference in REFERENCES.values():
        table.add_row(reference.name, reference.title)
    return table
