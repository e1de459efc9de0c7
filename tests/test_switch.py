"""A project that changes its answers becomes what it would always have been."""

import itertools
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from generator.variants import VARIANTS, Variant
from tests.releases import (
    Template,
    commit,
    conflicts,
    differences,
    git,
    switch,
    switch_to,
    tree,
)

PAIRS = list(itertools.permutations(VARIANTS.values(), 2))


@pytest.mark.parametrize(
    ("source", "target"),
    PAIRS,
    ids=[f"{one.name} to {other.name}" for one, other in PAIRS],
)
def test_a_switched_project_equals_a_fresh_one(
    source: Variant, target: Variant, started: Mapping[str, Path], tmp_path: Path
) -> None:
    project = shutil.copytree(started[source.name], tmp_path / "project")

    switch_to(project, source, target)

    assert conflicts(project) == []
    assert differences(tree(project), tree(started[target.name])) == []


def test_an_engine_that_speaks_another_broker_takes_that_one(
    started: Mapping[str, Path], tmp_path: Path
) -> None:
    project = shutil.copytree(started["celery-rabbitmq"], tmp_path / "project")

    switch(project, engine="arq")

    assert differences(tree(project), tree(started["arq-redis"])) == []


def test_an_engine_that_has_no_broker_forgets_which_it_was(
    started: Mapping[str, Path], tmp_path: Path
) -> None:
    project = shutil.copytree(started["celery-rabbitmq"], tmp_path / "project")

    switch(project, engine="postgresql")
    commit(project, "Switch to PostgreSQL alone")
    assert differences(tree(project), tree(started["postgresql"])) == []

    switch(project, engine="celery")
    assert differences(tree(project), tree(started["celery-redis"])) == []


def test_a_name_can_be_changed(
    template: Template, started: Mapping[str, Path], tmp_path: Path
) -> None:
    project = shutil.copytree(started["celery-redis"], tmp_path / "project")
    variant = VARIANTS["celery-redis"]

    switch(project, project_name="Shop", project_slug="shop")

    fresh = template.generate(
        tmp_path / "fresh", variant, project_name="Shop", project_slug="shop"
    )
    assert differences(tree(project), tree(fresh)) == []


def test_a_switch_to_the_same_changes_nothing(
    started: Mapping[str, Path], tmp_path: Path
) -> None:
    project = shutil.copytree(started["arq-redis"], tmp_path / "project")

    switch(project, engine="arq")

    assert git(project, "status", "--porcelain", "--ignored") == ""
