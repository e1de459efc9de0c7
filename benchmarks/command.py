"""Run `musthappen bench`: measure, print, and write what was measured."""

import os
import platform
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import (
    backlog,
    bulk,
    end_to_end,
    figures,
    generation,
    growth,
    held_snapshot,
    nice_to_have,
    page,
    request,
    start,
    suite,
)
from benchmarks.benchmark import Benchmark
from benchmarks.figures import Result
from benchmarks.lab import Lab, Scale, check_out, known_to
from benchmarks.processes import Failed
from generator import drawing
from generator.rendering import find_template
from generator.variants import Variant, find_variants
from hooks.refusal import Refusal

BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        end_to_end.BENCHMARK,
        request.BENCHMARK,
        growth.BENCHMARK,
        held_snapshot.BENCHMARK,
        bulk.BENCHMARK,
        backlog.BENCHMARK,
        start.BENCHMARK,
        generation.BENCHMARK,
        nice_to_have.BENCHMARK,
        suite.BENCHMARK,
    )
}

_VERDICTS = {True: "[green]yes", False: "[red]no", None: ""}

Revision = Annotated[
    str | None,
    typer.Option(
        metavar="REVISION", help="A commit whose template is measured in turns."
    ),
]

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
    against: Revision = None,
    json: Annotated[
        Path | None,
        typer.Option(help="Where figures are kept, beside those it holds already."),
    ] = None,
    write: Annotated[
        Path | None, typer.Option(help="The page to write of all figures.")
    ] = None,
) -> None:
    """Measure what the promise costs, against what a user would pick instead."""
    chosen = _find_benchmarks(names or list(BENCHMARKS))
    if write:
        drawing.check()
    results = figures.load(json) if json else {}

    def keep(result: Result) -> None:
        results[result.name] = result
        _show(result)
        if json:
            figures.save(json, results)

    if repeat:
        scale = Scale(repeat, quick)
        _measure(chosen, find_variants(variants or []), scale, against, keep)
    if write:
        page.write(write, BENCHMARKS.values(), results)


def _find_benchmarks(names: Sequence[str]) -> list[Benchmark]:
    if unknown := [name for name in names if name not in BENCHMARKS]:
        raise Refusal(
            f"unknown benchmark {unknown[0]}: there are {', '.join(BENCHMARKS)}"
        )
    return [BENCHMARKS[name] for name in names]


def _measure(
    benchmarks: Sequence[Benchmark],
    variants: Sequence[Variant],
    scale: Scale,
    against: str | None,
    keep: Callable[[Result], None],
) -> None:
    """Run benchmarks one after the other, and keep what each of them measured."""
    # What we start lives in sessions of its own: end it when we are told to end.
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    with tempfile.TemporaryDirectory(prefix="musthappen-bench-") as folder:
        Path(folder).chmod(0o711)  # The user who runs PostgreSQL passes through.
        template, before = find_template(), None
        if against:
            before = _lab_before(template, against, Path(folder), variants, scale)
        lab = Lab(template, Path(folder), variants, scale, before)
        with before.closing if before else nullcontext(), lab.closing:
            for benchmark in benchmarks:
                keep(_run(benchmark, lab))


def _lab_before(
    template: Path,
    revision: str,
    folder: Path,
    variants: Sequence[Variant],
    scale: Scale,
) -> Lab:
    """Return what makes projects of an earlier revision of the template."""
    earlier = folder / "template-before"
    try:
        check_out(template, revision, earlier)
    except Failed as reason:
        raise Refusal(f"the template has no revision {revision}") from reason

    beside = folder / "before"
    beside.mkdir()
    beside.chmod(0o711)
    return Lab(earlier, beside, known_to(earlier, variants), scale)


def _run(benchmark: Benchmark, lab: Lab) -> Result:
    if benchmark.needs_broker and not lab.brokered:
        raise Refusal(f"{benchmark.name} measures only variants with a broker")

    began = time.monotonic()
    load = Result(benchmark.name).load_before
    console.print(f"{benchmark.name} …", style="dim")

    try:
        result = benchmark.run(lab)
    except (Failed, TimeoutError) as reason:
        console.print(str(reason), markup=False, highlight=False)
        raise Refusal(
            f"{benchmark.name} cannot be measured: a program that it needs failed"
        ) from reason

    result.load_before = load
    result.seconds = time.monotonic() - began
    result.quick = lab.scale.quick
    # Some are measured once, however many repetitions are asked for.
    result.repetitions = max(len(row.figures) for row in result.rows)
    result.machine = f"{os.cpu_count()} cores of {_processor()}, {platform.system()}"
    result.versions = {"Python": platform.python_version(), **result.versions}
    return result


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()

    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


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
