"""What somebody changed in the template's files stays, or becomes a visible conflict.

The one exception is a file whose path leaves the project with its answers, as most do
on the way back to nice to have: Copier deletes it, changed or not, and `musthappen
update` keeps it.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from generator.rendering import ANSWERS
from generator.variants import VARIANTS
from tests.releases import (
    Template,
    commit,
    conflicts,
    git,
    switch_to,
    tree,
    update,
)

MINE = " -- mine"
THEIRS = " -- theirs"


def edit(file: Path, mark: str, *, part: float) -> None:
    """Mark the line at this part of a file: 0 is its first one, 1 its last."""
    lines = file.read_text().splitlines()
    lines[round(part * (len(lines) - 1))] += mark
    file.write_text("\n".join(lines) + "\n")


def edit_everything(project: Path, *, part: float) -> list[str]:
    """Change a line in every file of a project, and return their paths."""
    paths = [
        path for path, content in tree(project).items() if content and path != ANSWERS
    ]
    for path in paths:
        edit(project / path, MINE, part=part)
    commit(project, "Change every file")
    return paths


def expect_edits(
    project: Path, paths: list[str], fresh: Path
) -> tuple[list[str], list[str]]:
    """Expect that every edit survived or is a conflict; return which path is which."""
    clashing = conflicts(project)
    assert git(project, "diff", "--name-only", "--diff-filter=U").split() == clashing
    assert [path for path in paths if MINE not in (project / path).read_text()] == []

    survived = [path for path in paths if path not in clashing]
    for path in survived:
        merged = (project / path).read_text()
        assert merged.replace(MINE, "") == (fresh / path).read_text(), path
    return survived, clashing


@pytest.mark.parametrize("part", [0, 0.5, 1])
@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("celery-redis", "arq-redis"),
        ("arq-redis", "dramatiq-rabbitmq"),
        ("dramatiq-rabbitmq", "celery-rabbitmq"),
    ],
)
def test_edits_are_never_lost_silently_over_a_switch(
    source: str, target: str, part: float, started: Mapping[str, Path], tmp_path: Path
) -> None:
    project = shutil.copytree(started[source], tmp_path / "project")
    paths = edit_everything(project, part=part)

    switch_to(project, VARIANTS[source], VARIANTS[target])

    survived, clashing = expect_edits(project, paths, started[target])
    assert "app/delivery/ledger.py" in survived
    if part == 0:
        assert {"Procfile", "app/delivery/engine.py"} <= set(clashing)


@pytest.mark.parametrize("part", [0, 0.5, 1])
def test_edits_survive_a_graduation(
    part: float, started: Mapping[str, Path], tmp_path: Path
) -> None:
    source, target = "nice-to-have", "arq-redis"
    project = shutil.copytree(started[source], tmp_path / "project")
    paths = edit_everything(project, part=part)
    gone = [path for path in paths if not (started[target] / path).exists()]

    switch_to(project, VARIANTS[source], VARIANTS[target])

    assert gone == ["tests/delivery/bare/test_graduation.py"]
    expect_edits(project, [path for path in paths if path not in gone], started[target])


def test_tables_of_ones_own_are_not_overwritten_by_a_graduation(
    started: Mapping[str, Path], tmp_path: Path
) -> None:
    project = shutil.copytree(started["nice-to-have"], tmp_path / "project")
    (project / "app/models.py").write_text('"""My own tables."""\n')
    commit(project, "Add tables")

    switch_to(project, VARIANTS["nice-to-have"], VARIANTS["celery-redis"])

    assert conflicts(project) == ["app/models.py"]
    assert '"""My own tables."""\n' in (project / "app/models.py").read_text()


def test_edits_are_never_lost_silently_over_an_upgrade(tmp_path: Path) -> None:
    (tmp_path / "template").mkdir()
    template = Template(tmp_path / "template")
    template.release("v1.0")
    variant = VARIANTS["dramatiq-redis"]
    project = template.generate(tmp_path / "project", variant, ref="v1.0")
    paths = edit_everything(project, part=0.5)
    plain = sorted((template.folder / "template/project").rglob("*.py"))
    for file in plain[::2]:
        edit(file, THEIRS, part=0.5)
    for file in plain[1::2]:
        edit(file, THEIRS, part=1)
    template.release("v2.0")
    fresh = template.generate(tmp_path / "fresh", variant, ref="v2.0")

    update(project)

    survived, clashing = expect_edits(project, paths, fresh)
    upgraded = [path for path in paths if THEIRS in (project / path).read_text()]
    assert len(set(upgraded) & set(survived)) > 10
    assert len(set(upgraded) & set(clashing)) > 10
    assert set(clashing) <= set(upgraded)
