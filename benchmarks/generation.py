"""How long a project takes to be generated, against Copier's own floor, and how large it is."""

import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.figures import Goal, Result
from benchmarks.lab import Lab
from benchmarks.processes import run
from generator.variants import VARIANTS, Variant

TWICE = Goal(at_most=2)
ONE_FILE, PLAIN_FILES = (
    "a template of one file",
    "a template of the same files as plain text",
)

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
            name = variant.name
            floors = {
                ONE_FILE: _copy(lab, one_file),
                PLAIN_FILES: _copy(lab, plain[name]),
            }
            seconds = _copy(lab, ours, variant.answers)
            for floor, floor_seconds in floors.items():
                rows[name, floor].figures.append(seconds)
                rows[name, floor].references.append(floor_seconds)
    for name, folder in plain.items():
        paths = [path for path in (folder / "template").rglob("*") if path.is_file()]
        python = [path for path in paths if path.suffix == ".py"]
        app = sum(_lines(path) for path in python if "app" in path.parts)
        result.notes.append(
            f"{name}: {len(paths)} files, {sum(map(_lines, paths)):,} lines,"
            f" of them {app:,} of Python in `app/`"
        )
    return result


def _copy(lab: Lab, template: Path, answers: Mapping[str, str] | None = None) -> float:
    target = lab.folder / "copied"
    seconds = _run_copier(lab, template, target, answers or {})
    shutil.rmtree(target)
    return seconds


def _plain_copy(lab: Lab, ours: Path, variant: Variant) -> Path:
    """Make a template of what a variant's project consists of, with nothing to decide."""
    folder = lab.folder / "plain" / variant.name
    _run_copier(lab, ours, folder / "template", variant.answers)
    return _plain_template(folder, {})


def _run_copier(
    lab: Lab, template: Path, target: Path, answers: Mapping[str, str]
) -> float:
    data = {"project_name": "Order Service", **answers} if answers else {}
    command = [
        sys.executable,
        "-m",
        "copier",
        "copy",
        "--quiet",
        "--defaults",
        "--vcs-ref=HEAD",
    ]
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
