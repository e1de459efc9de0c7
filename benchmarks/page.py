"""Lay out two pages: what the promise costs, and all figures behind it."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks.benchmark import Benchmark, Verdict
from benchmarks.figures import Result, Row, short
from benchmarks.picture import paint
from generator.drawing import svg
from generator.markdown import table

Measured = Mapping[str, tuple[Benchmark, Result]]
"""Benchmarks and their results, by name."""

_COSTS = """\
# Performance

What the promise costs. Each figure stands beside that of what one would use instead,
measured in turns in the same run. Figures are medians; a ratio is taken repetition by
repetition, and the lowest and the highest stand in brackets. In the pictures, a thin
line reaches from the lowest to the highest figure.
"""

_FIGURES = """\
# Performance: all figures

All that lies behind [{page}]({page}): every figure, the goals and what keeps some
of them out of reach, and the machine. Figures are medians over the repetitions, with
the lowest and the highest in brackets; ratios are taken repetition by repetition. A
figure from a machine that was busy with other things says little; its ratio says more.
"""

_WRITTEN = """\
`musthappen bench --json docs/performance.json --write docs/performance.md` measures and
writes these pages and their pictures. Do not edit them.
"""

_QUICK = "**Taken with `--quick`, to show that it works: these are no figures.**\n"

_REACHED = {True: "yes", False: "**no**", None: ""}


def write(
    path: Path, benchmarks: Iterable[Benchmark], results: Mapping[str, Result]
) -> None:
    """Write the page, and figures and pictures beside it, of what has results."""
    measured = {
        benchmark.name: (benchmark, results[benchmark.name])
        for benchmark in benchmarks
        if benchmark.name in results
    }
    figures = path.with_stem(f"{path.stem}-figures")
    pictures = {name: _picture_path(path, name) for name in measured}

    for name, (benchmark, result) in measured.items():
        pictures[name].write_text(svg(paint(benchmark.picture(result))))

    path.write_text(_costs(measured, figures, pictures))
    figures.write_text(_all_figures(measured, path))


def _picture_path(path: Path, name: str) -> Path:
    return path.with_name(f"{path.stem}-{name.replace('_', '-')}.svg")


def _costs(measured: Measured, figures: Path, pictures: Mapping[str, Path]) -> str:
    """Return the first page: a screen of what the promise costs, with pictures."""
    rows = [
        [highlight.text, *_comparison(highlight.row)]
        for benchmark, result in measured.values()
        for highlight in benchmark.highlights(result)
    ]
    costs = table(["what it costs", "here", "beside it", "ratio"], rows)

    verdicts = [verdict for each in _verdicts(measured).values() for verdict in each]
    reached = sum(verdict.is_reached for verdict in verdicts)
    goals = (
        f"{reached} of {len(verdicts)} goals are reached. [All figures]({figures.name})"
        " say which are not,\nand why, with the loads, versions and dates."
    )

    shown = [
        f"![{benchmark.title}]({pictures[name].name})\n"
        for name, (benchmark, _) in measured.items()
    ]

    quick = [_QUICK] if any(result.quick for _, result in measured.values()) else []
    machine = f"Servers, workers and load ran together on {_machines(measured)}.\n"
    return "\n".join([_COSTS, *quick, costs, goals, machine, *shown, _WRITTEN])


def _comparison(row: Row) -> list[str]:
    """Return the cells of a comparison on the first page."""
    here = f"{short(row.figure.median)} {row.unit}"
    beside = short(row.reference.median) if row.reference else ""
    return [here, f"{row.against}: {beside}", str(row.ratio or "")]


def _all_figures(measured: Measured, page: Path) -> str:
    parts = [
        _FIGURES.format(page=page.name),
        _WRITTEN,
        _circumstances(measured),
        _goals(measured),
    ]

    for benchmark, result in measured.values():
        parts += [f"## {benchmark.title}\n", benchmark.introduction, _rows(result)]
        if result.notes:
            parts.append("".join(f"- {note}\n" for note in result.notes))

    return "\n".join(parts)


def _circumstances(measured: Measured) -> str:
    """Return what was measured on, when, and how busy the machine was before."""
    rows = [
        [
            benchmark.title + (" (quick: no figures)" if result.quick else ""),
            result.date,
            str(result.repetitions),
            short(result.load_before),
            f"{result.seconds:.0f} s",
        ]
        for benchmark, result in measured.values()
    ]
    head = ["benchmark", "measured", "repetitions", "load before it", "took"]

    versions = {
        name: version
        for _, result in measured.values()
        for name, version in result.versions.items()
    }
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"Servers, workers and load ran together on {_machines(measured)}: {listed}."
        f"\n\n{table(head, rows)}"
    )


def _machines(measured: Measured) -> str:
    machines = dict.fromkeys(result.machine for _, result in measured.values())
    return " and ".join(filter(None, machines)) or "an unknown machine"


def _goals(measured: Measured) -> str:
    rows = []
    for name, verdicts in _verdicts(measured).items():
        for verdict in verdicts:
            low, high = short(verdict.lowest), short(verdict.highest)
            values = low if low == high else f"{low} to {high}"
            rows.append(
                [
                    measured[name][0].title,
                    verdict.text,
                    "**yes**" if verdict.is_reached else "**no**",
                    f"{values}; {verdict.share}",
                    verdict.limit,
                ]
            )

    head = ["benchmark", "goal", "reached", "figures; how many reach it", "its limit"]
    return f"## Goals\n\n{table(head, rows)}"


def _verdicts(measured: Measured) -> dict[str, list[Verdict]]:
    return {
        name: [
            verdict
            for requirement in benchmark.requirements
            if (verdict := requirement.judge(result.rows))
        ]
        for name, (benchmark, result) in measured.items()
    }


def _rows(result: Result) -> str:
    rows = [
        [
            row.what,
            f"{row.figure} {row.unit}",
            row.against,
            f"{row.reference} {row.unit}" if row.reference else "",
            str(row.ratio or ""),
            str(row.goal or ""),
            _REACHED[row.holds],
        ]
        for row in result.rows
    ]
    head = ["", "figure", "against", "reference", "ratio", "goal", "reached"]
    return table(head, rows)
