"""A project that people live in goes round all variants, with everything of theirs.

At every stop it passes its own linters, types and tests: those that people wrote and
some others, or with `--full` all of them. `musthappen check` runs the template's own
ones on every variant.
"""

import itertools
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from generator import types_cache
from generator.variants import VARIANTS, Variant
from tests.conftest import ROOT
from tests.living import give_up_promises, live_in, losses, lost_promises, promise
from tests.releases import (
    Template,
    commit,
    conflicts,
    differences,
    git,
    switch_to,
    tree,
    without,
)
from tests.serving import check, install

NICE = VARIANTS["nice-to-have"]
START = VARIANTS["celery-redis"]
ROUND = [
    VARIANTS[name]
    for name in (
        *("dramatiq-rabbitmq", "postgresql", "arq-redis"),
        *("celery-rabbitmq", "dramatiq-redis"),
    )
]
PAIRS = list(itertools.permutations(VARIANTS.values(), 2))

ALL = ((), ("-m", "servers"))
SOME = (
    (
        "tests/delivery/bare/test_answers.py",
        "tests/test_visits.py",
        "tests/test_parcels.py",
    ),
    (
        *("-m", "servers", "tests/servers"),
        "tests/delivery/servers/test_travel.py",
        "tests/delivery/servers/test_deployment.py",
    ),
)
"""Arguments of pytest: what needs no server, and what does."""


def pass_all(project: Path, *runs: tuple[str, ...]) -> None:
    """Let the project's own linters, types and tests judge it as it is now."""
    install(project)
    check(project, "ruff", "check")
    check(project, "ruff", "format", "--check")
    types_cache.lend(ROOT, project)
    check(project, "mypy")
    types_cache.keep(ROOT, project)

    for arguments in runs:
        here = (
            each
            for each in arguments
            if not each.startswith("tests/") or (project / each).exists()
        )
        check(project, "pytest", *here)

    commit(project, "Lock")


def test_a_project_goes_round_all_variants_and_back(
    template: Template, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    bare, servers = ALL if pytestconfig.getoption("full") else SOME

    def arrive(source: Variant, target: Variant) -> None:
        switch_to(project, source, target)
        assert conflicts(project) == []
        assert losses(project) == []
        commit(project, f"Switch to {target.name}")

    # Small at first, and nothing much is lost with a task.
    project = template.generate(tmp_path / "project", NICE)
    live_in(project)
    commit(project, "Open the shop")
    pass_all(project, bare)
    # Then there are parcels, which must not be lost.
    arrive(NICE, START)
    promise(project)
    commit(project, "Deliver parcels")
    beginning = tree(project)
    pass_all(project, bare, servers)
    for source, target in itertools.pairwise([START, *ROUND]):
        arrive(source, target)
        assert lost_promises(project) == []
        pass_all(project, bare, servers)
    arrive(ROUND[-1], START)
    assert lost_promises(project) == []
    assert (
        differences(without(tree(project), "uv.lock"), without(beginning, "uv.lock"))
        == []
    )
    # In the end others deliver the parcels.
    give_up_promises(project)
    commit(project, "Deliver no parcels")
    arrive(START, NICE)
    pass_all(project, bare)


@pytest.mark.parametrize(("source", "target"), [(NICE, START), (START, ROUND[0])])
def test_the_worked_example_can_be_deleted(
    source: Variant, target: Variant, template: Template, tmp_path: Path
) -> None:
    project = template.generate(tmp_path / "project", source)
    [command] = re.findall("^rm .+$", (project / "README.md").read_text(), re.MULTILINE)

    subprocess.run(["bash", "-c", command], cwd=project, check=True)
    if source.must_happen:
        (project / "app/models.py").write_text(
            '"""Hold this service\'s own tables."""\n'
        )
    deleted = git(project, "ls-files", "--deleted").split()
    commit(project, "Delete the example")

    servers = ("-m", "servers", "tests/delivery/servers/test_travel.py")
    pass_all(project, (), *([servers] if source.must_happen else []))
    switch_to(project, source, target)
    assert conflicts(project) == []
    assert [path for path in deleted if (project / path).exists()] == []


@pytest.fixture(scope="session")
def lived_in(
    started: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return the folder of a lived-in project of each variant, to be copied."""
    folder = tmp_path_factory.mktemp("lived-in")
    for name, project in started.items():
        shutil.copytree(project, folder / name)
        live_in(folder / name)
        commit(folder / name, "Open the shop")
    return folder


@pytest.mark.parametrize(
    ("source", "target"),
    PAIRS,
    ids=[f"{one.name} to {other.name}" for one, other in PAIRS],
)
def test_any_switch_keeps_what_people_wrote(
    source: Variant, target: Variant, lived_in: Path, tmp_path: Path
) -> None:
    project = shutil.copytree(lived_in / source.name, tmp_path / "project")

    switch_to(project, source, target)

    assert conflicts(project) == []
    assert losses(project) == []
    expected = without(tree(lived_in / target.name), "uv.lock")
    assert differences(without(tree(project), "uv.lock"), expected) == []
