"""`musthappen drill`: what can be asked of a drill, and in which order it is done."""

import sys
import tempfile
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from generator.drill import page, picture, report
from generator.drill.faults import FAULTS, Fault, find_faults
from generator.drill.references import REFERENCES
from generator.drill.report import Progress
from generator.drill.session import Result, Settings
from generator.drill.session import drill as drill_copy
from generator.drill.target import Target, find_targets, prepare
from generator.refusal import Refusal
from generator.rendering import find_template
from hooks import before

WIDTH = 200


class Database(StrEnum):
    """Where the ledger is."""

    POSTGRESQL = "postgresql"
    SQLITE = "sqlite"


# What is no terminal, a log or a file, can scroll.
console = Console(width=None if sys.stdout.isatty() else WIDTH)


def drill(
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TARGET",
            help="A variant, a reference, or the path of a project (a copy is drilled);"
            " all variants and references when none is named.",
        ),
    ] = None,
    faults: Annotated[
        list[str] | None,
        typer.Option("--fault", help="Only this fault; can be repeated."),
    ] = None,
    show_list: Annotated[
        bool, typer.Option("--list", help="List faults and references, and end.")
    ] = False,
    tasks: Annotated[
        int | None, typer.Option(min=1, help="Tasks per run. [1000; everything: 10000]")
    ] = None,
    rate: Annotated[float, typer.Option(min=1, help="Requests a second.")] = 40,
    seed: Annotated[int, typer.Option(help="Of the load and of what is random.")] = 1,
    duration: Annotated[
        float, typer.Option(min=10, help="Seconds that the fault `everything` lasts.")
    ] = 300,
    outage: Annotated[
        float, typer.Option(min=1, help="Seconds that a broker refuses, and hangs.")
    ] = 30,
    lease: Annotated[
        float, typer.Option(min=1, help="LEASE_SECONDS of the service.")
    ] = 10,
    database: Annotated[
        Database, typer.Option(help="SQLite: no broker, the API runs its tasks itself.")
    ] = Database.POSTGRESQL,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json", metavar="FILE", help="Write all results there, as they come."
        ),
    ] = None,
    svg_file: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", help="Draw the grid there.")
    ] = None,
    page_file: Annotated[
        Path | None,
        typer.Option("--write", metavar="FILE", help="Write page and picture there."),
    ] = None,
    earlier: Annotated[
        list[Path] | None,
        typer.Option(
            "--read", metavar="FILE", help="Show these results instead of a new drill."
        ),
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(help="Where to leave the copies, with their logs.")
    ] = None,
    template: Annotated[
        Path | None,
        typer.Option(
            help="A clone of the Must Happen repository, if not the one we run from."
        ),
    ] = None,
) -> None:
    """Break a running service in every way, and count what became of its tasks.

    A reference is a service without a ledger: what it loses is counted, and is no
    failure.
    """
    if show_list:
        console.print(_fault_table())
        console.print(_reference_table())
        return
    for path in filter(None, (json_file, svg_file, page_file)):
        page.check(path)
    if earlier:
        results = report.load(earlier)
    else:
        settings = Settings(database.value, tasks, rate, seed, duration, outage, lease)
        plan = _plan(
            find_targets(targets or [], find_template(template)),
            find_faults(faults or []),
            settings,
            is_choice=bool(targets),
        )
        results = _drill(plan, settings, keep, json_file, find_template(template))
    console.print(report.summary(results))
    if json_file:
        report.dump(results, json_file)
    if svg_file:
        svg_file.write_text(picture.draw(results))
    if page_file:
        page.write(results, page_file)
    if any(result.broken for result in results):
        raise typer.Exit(1)


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

            def on_progress(fault: str, text: str, name: str = target.name) -> None:
                progress.on_progress(name, fault, text)

            drill_copy(target, copy, chosen, settings, on_progress, on_result)
    return progress.results


def _plan(
    targets: Sequence[Target],
    faults: Sequence[Fault],
    settings: Settings,
    *,
    is_choice: bool,
) -> list[tuple[Target, list[str]]]:
    """Return what is done to which target; one that was not chosen may be left out."""
    plan = []
    for target in targets:
        is_reference = target.reference is not None
        names = [
            fault.name
            for fault in faults
            if fault.applies(
                target.engine, settings.database, is_reference=is_reference
            )
        ]
        if is_choice and not names:
            raise Refusal(
                f"none of these faults applies to {target.name} on {settings.database}"
            )
        if names:
            plan.append((target, names))
    if not plan:
        raise Refusal(f"none of these faults applies on {settings.database}")
    return plan


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
