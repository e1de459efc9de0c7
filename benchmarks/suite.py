"""Measure how long this repository's tests take, and which of them take longest."""

import os
import resource
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from benchmarks.benchmark import Benchmark, Requirement
from benchmarks.figures import Goal, Result, Row, short
from benchmarks.lab import Lab
from benchmarks.picture import Panel
from benchmarks.processes import run

INTRODUCTION = """\
`./test` on a machine that has its servers, four tests at a time. The slowest tests are
listed below the figures.
"""

GOAL = Goal(at_most=15, of_figure=True)
VARIANT_TEST = "test_a_variant_passes["
SLOWEST = 12
TIME_LIMIT = 7200
COMMAND = "the whole test command"
ITS_TESTS = ", its tests one after the other"
PROCESSORS = "how long it keeps each core busy"


def bench(lab: Lab) -> Result:
    """Run the test command once, however many repetitions are asked for."""
    result = Result("tests")
    report = lab.folder / "tests.xml"
    # In the small, only the tests that show the tables of variants, in one process.
    chosen = ["-k", "matrix", "--numprocesses=0"] if lab.scale.quick else []

    began, used = time.monotonic(), _processor_seconds()
    command = ["./test", f"--junit-xml={report}", *chosen]
    run(command, lab.template, time_limit=TIME_LIMIT)
    minutes = (time.monotonic() - began) / 60
    busy = (_processor_seconds() - used) / 60 / (os.cpu_count() or 1)

    result.add(COMMAND, "", "min", [minutes], goal=GOAL)
    result.add(PROCESSORS, "", "min", [busy])
    _add_tests(result, report)
    return result


def _add_tests(result: Result, report: Path) -> None:
    """Add the time of each variant and file, and name the slowest tests."""
    files: dict[str, float] = defaultdict(float)
    tests: dict[str, float] = {}
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - pytest wrote it
        name, seconds = case.attrib["name"], float(case.attrib["time"])
        files[case.attrib["classname"].replace(".", "/") + ".py"] += seconds
        if name.startswith(VARIANT_TEST):
            variant = name.removeprefix(VARIANT_TEST).removesuffix("]")
            what = f"{variant}: rendered, linted, typed, tested"
            result.add(what, "", "s", [seconds])
        else:
            tests[name] = seconds

    for file, seconds in sorted(files.items(), key=lambda item: -item[1]):
        result.add(f"`{file}`{ITS_TESTS}", "", "s", [seconds])

    slowest = sorted(tests.items(), key=lambda item: -item[1])[:SLOWEST]
    result.notes += [f"`{name}`: {short(seconds)} s" for name, seconds in slowest]


def _processor_seconds() -> float:
    """Return how long all processes that have ended here kept a core busy."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _picture(result: Result) -> list[Panel]:
    files = {
        row.what.removesuffix(ITS_TESTS).strip("`"): {"its tests": row.figure}
        for row in result.rows
        if row.what.endswith(ITS_TESTS)
    }
    title = "This repository's test files, the tests of each one after the other"
    return [Panel(title, "seconds", files)]


def _processor_time(rows: Sequence[Row]) -> str:
    row = next(row for row in rows if row.what == PROCESSORS)
    return f"its processes keep each core busy for {short(row.figure.median)} min"


BENCHMARK = Benchmark(
    name="tests",
    title="The tests",
    introduction=INTRODUCTION,
    run=bench,
    requirements=(
        Requirement("the whole test command within 15 minutes", limit=_processor_time),
    ),
    picture=_picture,
)
