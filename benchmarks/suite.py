"""How long this repository's tests take, each generated project's own among them, and where."""

import os
import resource
import time
from collections import defaultdict
from xml.etree import ElementTree as ET

from benchmarks.figures import Goal, Result, short
from benchmarks.lab import Lab
from benchmarks.processes import run

GOAL = Goal(at_most=15, of_figure=True)
VARIANT_TEST = "test_a_variant_passes["
SLOWEST = 12
TIME_LIMIT = 7200
PROCESSORS = "how long it keeps each core busy"


def bench(lab: Lab) -> Result:
    """Run the test command once, however many repetitions are asked for."""
    result = Result("tests")
    report = lab.folder / "tests.xml"
    # In the small, only the tests that show the tables of variants, one after the
    # other.
    chosen = ["-k", "matrix", "--numprocesses=0"] if lab.scale.quick else []
    began, used = time.monotonic(), _processor_seconds()
    run(
        ["./test", f"--junit-xml={report}", *chosen],
        lab.template,
        time_limit=TIME_LIMIT,
    )
    minutes = (time.monotonic() - began) / 60
    busy = (_processor_seconds() - used) / 60 / (os.cpu_count() or 1)
    result.add("the whole test command", "", "min", [minutes], goal=GOAL)
    result.add(PROCESSORS, "", "min", [busy])
    files: dict[str, float] = defaultdict(float)
    tests: dict[str, float] = {}
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - pytest wrote it for us
        name, seconds = case.attrib["name"], float(case.attrib["time"])
        files[case.attrib["classname"].replace(".", "/") + ".py"] += seconds
        if name.startswith(VARIANT_TEST):
            variant = name.removeprefix(VARIANT_TEST).removesuffix("]")
            result.add(
                f"{variant}: rendered, linted, typed, tested", "", "s", [seconds]
            )
        else:
            tests[name] = seconds
    for file, seconds in sorted(files.items(), key=lambda item: -item[1]):
        result.add(f"`{file}`, its tests one after the other", "", "s", [seconds])
    slowest = sorted(tests.items(), key=lambda item: -item[1])[:SLOWEST]
    result.notes += [f"`{name}`: {short(seconds)} s" for name, seconds in slowest]
    return result


def _processor_seconds() -> float:
    """Return how long the processes that were started here, and have ended, kept a core busy."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
