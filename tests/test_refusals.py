"""Bad input is refused in one line, with an exit code, and nothing is written."""

import keyword
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment, FileSystemLoader
from packaging.requirements import Requirement

from tests.conftest import ROOT, Command

BAD_ANSWERS = [
    (["project_name="], "must start with a letter"),
    (["project_name=1st Service"], "must start with a letter"),
    (["project_name=-shop"], "must start with a letter"),
    (['project_name=The "Shop"'], "must start with a letter"),
    (["project_name=Shop\nTwo"], "must start with a letter"),
    (["project_name=Shop {{ 7 * 7 }}"], "must start with a letter"),
    (["project_name=注文"], "no letter from a to z"),
    (["project_name=" + "A" * 41], "longer than 40"),
    (["project_name=class"], "keyword"),
    (["project_name=JSON"], "standard library"),
    (["project_name=App"], "inside the project"),
    (["project_name=Celery"], "may install"),
    (["project_slug="], "no valid distribution name"),
    (["project_slug=My_Shop"], "no valid distribution name"),
    (["project_slug=shop-"], "no valid distribution name"),
    (["project_slug=tests"], "inside the project"),
    (["delivery=maybe"], "'maybe' is not in"),
    (["engine=rq"], "'rq' is not in"),
    (["broker=kafka"], "'kafka' is not in"),
    (["engine=arq", "broker=rabbitmq"], "ARQ speaks only Redis"),
    (
        ["delivery=nice_to_have", "engine=celery"],
        "only a must-happen project has an engine",
    ),
    (
        ["delivery=nice_to_have", "broker=redis"],
        "only a must-happen project has a broker",
    ),
    (["engine=postgresql", "broker=redis"], "PostgreSQL alone has no broker"),
    (["colour=red"], "unknown answer colour: the questions are project_name"),
    (["_src_path=/"], "unknown answer _src_path"),
    (["engine"], "write it as engine=VALUE"),
]


def assert_refused(outcome: subprocess.CompletedProcess[str], reason: str) -> None:
    assert outcome.returncode == 2
    assert reason in outcome.stderr
    assert outcome.stderr.startswith("musthappen: ")
    assert outcome.stderr.count("\n") == 1
    assert outcome.stdout == ""


@pytest.mark.parametrize(
    ("answers", "reason"), BAD_ANSWERS, ids=lambda value: str(value)[:40]
)
def test_bad_answers(
    answers: list[str], reason: str, musthappen_here: Command, tmp_path: Path
) -> None:
    outcome = musthappen_here(
        "new", "shop", *(f"--data={answer}" for answer in answers)
    )

    assert_refused(outcome, reason)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_whose_name_makes_no_name(musthappen: Command, tmp_path: Path) -> None:
    assert_refused(musthappen("new", "celery"), '"project_name" is required')
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_empty(musthappen: Command, tmp_path: Path) -> None:
    mine = tmp_path / "shop" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("mine")

    assert_refused(musthappen("new", "shop"), "shop is not empty")
    assert [*mine.parent.iterdir()] == [mine]


def test_a_target_that_is_a_file(musthappen: Command, tmp_path: Path) -> None:
    (tmp_path / "shop").write_text("mine")

    assert_refused(musthappen("new", "shop"), "shop is a file")
    assert (tmp_path / "shop").read_text() == "mine"


def test_a_folder_inside_the_template(musthappen: Command) -> None:
    assert_refused(musthappen("new", str(ROOT / "shop")), "is inside the template")
    assert not (ROOT / "shop").exists()


def test_a_folder_that_cannot_be_made(musthappen: Command) -> None:
    outcome = musthappen("new", "/proc/shop")

    assert outcome.returncode == 2
    assert outcome.stderr.startswith("musthappen: ")
    assert outcome.stderr.count("\n") == 1


def test_a_template_that_is_none(musthappen: Command, tmp_path: Path) -> None:
    assert_refused(
        musthappen("new", "shop", "--template", str(tmp_path)), "holds no template"
    )


def test_a_variant_that_does_not_exist(musthappen: Command) -> None:
    assert_refused(musthappen("check", "celery-kafka"), "unknown variant celery-kafka")


def test_what_renders_nothing_does_not_wait_for_copier() -> None:
    program = "import sys, generator.cli; sys.exit('copier' in sys.modules)"

    assert (
        subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, check=False
        ).returncode
        == 0
    )


@pytest.fixture(scope="module")
def names() -> Any:
    environment = Environment(
        loader=FileSystemLoader(ROOT),
        extensions=["jinja2_ansible_filters.AnsibleCoreFiltersExtension"],
        autoescape=False,  # noqa: S701 - it makes no HTML
    )
    return environment.get_template("template/names.jinja").module


def test_every_name_of_python_is_refused(names: Any) -> None:
    taken = {name for name in sys.stdlib_module_names if not name.startswith("_")}
    taken |= {word.lower() for word in keyword.kwlist}
    assert [
        name for name in taken if not names.slug_refusal(name.replace("_", "-").lower())
    ] == []


def test_every_dependency_is_refused(names: Any, project: Path) -> None:
    pyproject = tomllib.loads((project / "pyproject.toml").read_text())
    dependencies = (
        pyproject["project"]["dependencies"] + pyproject["dependency-groups"]["dev"]
    )
    slugs = [Requirement(dependency).name.lower() for dependency in dependencies]
    assert [slug for slug in slugs if not names.slug_refusal(slug)] == []


@pytest.mark.parametrize(
    "name", ["Shop", "Order Service", "a", "Größe 2", "my_shop", "Shop v1.2"]
)
def test_a_good_name_is_not_refused(names: Any, name: str) -> None:
    assert names.name_refusal(name) == ""
