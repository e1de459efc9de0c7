"""The command `musthappen bench`: measures, prints, and writes what was measured."""

import platform
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import (
    backlog,
    end_to_end,
    figures,
    generation,
    growth,
    nice_to_have,
    page,
    request,
    start,
    suite,
)
from benchmarks.figures import Result
from benchmarks.lab import Lab, Scale
from benchmarks.processes import Failed
from generator.rendering import find_template
from generator.variants import find_variants
from hooks.refusal import Refusal

BENCHMARKS: dict[str, Callable[[Lab], Result]] = {
    "end_to_end": end_to_end.bench,
    "request": request.bench,
    "growth": growth.bench,
    "backlog": backlog.bench,
    "start": start.bench,
    "generation": generation.bench,
    "nice_to_have": nice_to_have.bench,
    "tests": suite.bench,
}

_VERDICTS = {True: "[green]yes", False: "[red]no", None: ""}

console = Console()
console.width = max(console.width, 160)


def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME", help=f"Of {', '.join(BENCHMARKS)}; all when none is named."
        ),
    ] = None,
    variants: Annotated[
        list[str] | None,
        typer.Option("--variant", "-v", help="Only this; can be repeated."),
    ] = None,
    repeat: Annotated[
        int, typer.Option(min=0, help="Repetitions; 0 measures nothing.")
    ] = 5,
    quick: Annotated[
        bool, typer.Option("--quick", help="Show that it works, no figures.")
    ] = False,
    json: Annotated[
        Path | None,
        typer.Option(help="Where figures are kept, beside those it holds already."),
    ] = None,
    write: Annotated[
        Path | None, typer.Option(help="The page to write of all figures.")
    ] = None,
) -> None:
    """Measure what the promise costs, against what a user would pick instead."""
    if unknown := [name for name in names or () if name not in BENCHMARKS]:
        raise Refusal(
            f"unknown benchmark {unknown[0]}: there are {', '.join(BENCHMARKS)}"
        )
    template, chosen = find_template(), find_variants(variants or [])
    results = figures.load(json) if json else {}
    # What we start lives in sessions of its own: end it when we are told to end.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="musthappen-bench-") as folder:
        Path(folder).chmod(0o711)  # The user who runs PostgreSQL passes through.
        lab = Lab(template, Path(folder), chosen, Scale(repeat, quick))
        with lab.closing:
            for name in (names or BENCHMARKS) if repeat else ():
                results[name] = _run(name, lab)
                _show(results[name])
                if json:
                    figures.save(json, results)
    if write:
        page.write(write, [results[name] for name in BENCHMARKS if name in results])


def _run(name: str, lab: Lab) -> Result:
    began = time.monotonic()
    load = Result(name).load_before
    console.print(f"{name} …", style="dim")
    try:
        result = BENCHMARKS[name](lab)
    except (Failed, TimeoutError) as reason:
        console.print(str(reason), markup=False, highlight=False)
        raise Refusal(
            f"{name} cannot be measured: a program that it needs failed"
        ) from reason
    result.load_before = load
    result.seconds = time.monotonic() - began
    result.quick = lab.scale.quick
    # Some are measured once, however many repetitions are asked for.
    result.repetitions = max(len(row.figures) for row in result.rows)
    result.versions = {"Python": platform.python_version(), **result.versions}
    return result


def _show(result: Result) -> None:
    table = Table("", "figure", "against", "reference", "ratio", "goal", "reached")
    for row in result.rows:
        table.add_row(
            row.what,
            f"{row.figure} {row.unit}",
            row.against,
            str(row.reference or ""),
            str(row.ratio or ""),
            str(row.goal or ""),
            _VERDICTS[row.holds],
        )
    console.print(table)
    for note in result.notes:
        console.print(note, markup=False, highlight=False)
    console.print(
        f"load before: {result.load_before:.1f}, took {result.seconds:.0f} s",
        style="dim",
    )
