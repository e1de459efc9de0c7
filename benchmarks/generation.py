"""How long a project takes to be generated, against Copier's own floor, and how large it is."""

import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from benchmarks.figures import Goal, Result
from benchmarks.lab import Lab
from generator.rendering import render
from generator.variants import VARIANTS

TWICE = Goal(at_most=2)


def bench(lab: Lab) -> Result:
    """Render each variant and a template of one file, in turns."""
    result = Result("generation")
    ours = _as_repository(lab.folder / "template", lab.template)
    floor = _one_file_template(lab.folder / "floor")
    rows = {
        name: result.add(name, "a template of one file", "s", [], goal=TWICE) for name in VARIANTS
    }
    for repetition in range(lab.scale.repetitions):
        folder = lab.folder / f"generated-{repetition}"
        for name, row in rows.items():
            row.references.append(_seconds(floor, folder / f"{name}-floor", {}))
            answers = {"project_name": "Order Service", **VARIANTS[name].answers}
            row.figures.append(_seconds(ours, folder / name, answers))
    for name in rows:
        paths = [path for path in (folder / name).rglob("*") if path.is_file()]
        app = sum(_lines(path) for path in paths if "app" in path.parts and path.suffix == ".py")
        result.notes.append(
            f"{name}: {len(paths)} files, {sum(map(_lines, paths)):,} lines,"
            f" of them {app:,} of Python in app/"
        )
    return result


def _seconds(template: Path, target: Path, answers: Mapping[str, str]) -> float:
    began = time.perf_counter()
    render(template, target, answers)
    return time.perf_counter() - began


def _lines(path: Path) -> int:
    return len(path.read_text(errors="replace").splitlines())


def _one_file_template(folder: Path) -> Path:
    (folder / "template").mkdir(parents=True)
    (folder / "copier.yml").write_text("_subdirectory: template\n")
    (folder / "template/README.md.jinja").write_text("# {{ _folder_name }}\n")
    return _commit(folder)


def _as_repository(folder: Path, template: Path) -> Path:
    """Copy the working tree's template without its history, as large as a shallow clone."""
    folder.mkdir()
    names = ["copier.yml", "template"]
    subprocess.run(["cp", "-a", *(str(template / name) for name in names), folder], check=True)
    return _commit(folder)


def _commit(folder: Path) -> Path:
    identity = ["-c", "user.name=bench", "-c", "user.email=bench@example.com"]
    for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "Template"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder
