"""Measure how long a project takes to be generated, beside Copier's own floor."""

import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.benchmark import Benchmark, Requirement
from benchmarks.figures import Goal, Result, Row, Spread, short
from benchmarks.lab import Lab
from benchmarks.picture import OURS, Panel
from benchmarks.processes import run
from generator.variants import VARIANTS, Variant

INTRODUCTION = """\
`copier copy` from a packed repository of one commit, as a command. The first floor is a
template of one file. The second is what Copier takes to write the same files when
nothing in them or in their names is to be decided.
"""

TWICE = Goal(at_most=2)
ONE_FILE = "a template of one file"
PLAIN_FILES = "a template of the same files as plain text"

_IDENTITY = ["-c", "user.name=bench", "-c", "user.email=bench@example.com"]


def bench(lab: Lab) -> Result:
    """Run `copier copy` for each variant, and for the floors, in turns."""
    result = Result("generation")
    # In the small, only those that the other benchmarks look at.
    variants = lab.variants if lab.scale.quick else list(VARIANTS.values())

    ours = lab.folder / "ours"
    shutil.copytree(lab.template / "template", ours / "template")
    shutil.copy(lab.template / "copier.yml", ours)
    _commit(ours)
    one_file = _plain_template(lab.folder / "one-file", {"README.md": "# A project\n"})
    plain = {variant.name: _plain_copy(lab, ours, variant) for variant in variants}
    rows = {
        (name, floor): result.add(
            name, floor, "s", [], goal=TWICE if floor == ONE_FILE else None
        )
        for name in plain
        for floor in (ONE_FILE, PLAIN_FILES)
    }

    for _ in range(lab.scale.repetitions):
        for variant in variants:
            floors = {
                ONE_FILE: _copy(lab, one_file),
                PLAIN_FILES: _copy(lab, plain[variant.name]),
            }
            seconds = _copy(lab, ours, variant.answers)
            for floor, floor_seconds in floors.items():
                rows[variant.name, floor].figures.append(seconds)
                rows[variant.name, floor].references.append(floor_seconds)

    result.notes += [f"{name}: {_size(folder)}" for name, folder in plain.items()]
    return result


def _size(folder: Path) -> str:
    """Return in words how large a generated project is."""
    paths = [path for path in (folder / "template").rglob("*") if path.is_file()]
    python = [path for path in paths if path.suffix == ".py"]
    app = sum(_lines(path) for path in python if "app" in path.parts)
    return (
        f"{len(paths)} files, {sum(map(_lines, paths)):,} lines,"
        f" of them {app:,} of Python in `app/`"
    )


def _copy(lab: Lab, template: Path, answers: Mapping[str, str] | None = None) -> float:
    target = lab.folder / "copied"
    seconds = _run_copier(lab, template, target, answers or {})
    shutil.rmtree(target)
    return seconds


def _plain_copy(lab: Lab, ours: Path, variant: Variant) -> Path:
    """Make a template of a variant's files, with nothing to decide."""
    folder = lab.folder / "plain" / variant.name
    _run_copier(lab, ours, folder / "template", variant.answers)
    return _plain_template(folder, {})


def _run_copier(
    lab: Lab, template: Path, target: Path, answers: Mapping[str, str]
) -> float:
    data = {"project_name": "Order Service", **answers} if answers else {}
    command = [sys.executable, "-m", "copier", "copy"]
    command += ["--quiet", "--defaults", "--vcs-ref=HEAD"]
    command += [f"--data={name}={value}" for name, value in data.items()]

    began = time.perf_counter()
    run([*command, str(template), str(target)], lab.folder)
    return time.perf_counter() - began


def _plain_template(folder: Path, files: Mapping[str, str]) -> Path:
    (folder / "template").mkdir(parents=True, exist_ok=True)
    (folder / "copier.yml").write_text("_subdirectory: template\n")
    for name, text in files.items():
        (folder / "template" / name).write_text(text)
    _commit(folder)
    return folder


def _commit(folder: Path) -> None:
    commit = [*_IDENTITY, "commit", "-qm", "Template"]
    # As what a server sends is: hundreds of small files are slow to clone.
    packing = ["gc", "-q"]
    for command in (["init", "-q"], ["add", "-A"], commit, packing):
        subprocess.run(["git", *command], cwd=folder, check=True)


def _lines(path: Path) -> int:
    return len(path.read_text(errors="replace").splitlines())


def _picture(result: Result) -> list[Panel]:
    groups: dict[str, dict[str, Spread]] = {}
    for row in result.rows:
        group = groups.setdefault(row.what, {OURS: row.figure})
        if row.reference:
            group[row.against] = row.reference

    title = "Generating a project, beside templates with nothing to decide"
    return [Panel(title, "seconds; less is better", groups)]


def _plain_files(rows: Sequence[Row]) -> str:
    floors = [
        row.reference.median
        for row in rows
        if row.against == PLAIN_FILES and row.reference
    ]
    least, most = short(min(floors)), short(max(floors))
    return f"the same files as plain text: {least} to {most} s"


BENCHMARK = Benchmark(
    name="generation",
    title="Generation",
    introduction=INTRODUCTION,
    run=bench,
    requirements=(Requirement("at most twice Copier's floor", limit=_plain_files),),
    picture=_picture,
)
