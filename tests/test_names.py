"""Whatever name is accepted, the files of the project hold it, and can be read."""

import ast
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from generator.variants import VARIANTS
from tests.conftest import ROOT

TEMPLATES = ROOT / "template/project"


@pytest.fixture(scope="module")
def environment() -> Environment:
    """What Copier renders with."""
    return Environment(
        loader=FileSystemLoader([ROOT, TEMPLATES]),
        extensions=["jinja2_ansible_filters.AnsibleCoreFiltersExtension"],
        autoescape=False,  # noqa: S701 - it makes no HTML
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )


@settings(max_examples=2000, deadline=None)
@given(name=st.from_regex(r"\A[^\W\d_][\w .-]{0,39}\Z"))
@example(name="Order 𠮷野")
@example(name="Null")
@example(name="Yes")
@example(name="No")
@example(name="E10")
def test_names_arrive_unchanged(name: str, environment: Environment) -> None:
    names: Any = environment.get_template("template/names.jinja").module
    if names.name_refusal(name):
        return

    slug = str(names.slug_of(name)).strip()
    for variant in ("nice-to-have", "celery-redis"):
        answers = {
            **VARIANTS[variant].answers,
            "project_name": name,
            "project_slug": slug,
            "_copier_conf": {"src_path": "", "answers_file": ""},
        }
        layer = "nice_to_have" if variant == "nice-to-have" else "must_happen"

        def rendered(path: str, layer: str = "every_project", **more: Any) -> str:
            template = environment.get_template(f"{{{{ {layer} }}}}/{path}.jinja")
            return template.render(more)

        pyproject = tomllib.loads(rendered("pyproject.toml", **answers))["project"]
        assert (pyproject["name"], pyproject["description"]) == (slug, name)

        compose = yaml.safe_load(rendered("compose.yaml", **answers))
        assert (compose["name"], compose["x-app"]["image"]) == (slug, slug)

        assert rendered("README.md", **answers).splitlines()[0] == f"# {name}"

        main = ast.parse(rendered("app/main.py", layer, **answers))
        titles = [
            keyword.value.value
            for keyword in ast.walk(main)
            if isinstance(keyword, ast.keyword)
            and keyword.arg == "title"
            and isinstance(keyword.value, ast.Constant)
        ]
        assert titles == [name]


def test_every_template_that_holds_a_name_is_looked_at() -> None:
    holders = {
        path.name
        for path in TEMPLATES.rglob("*.jinja")
        if "project_name" in path.read_text() or "project_slug" in path.read_text()
    }
    looked_at = {"pyproject.toml", "compose.yaml", "README.md", "main.py"}
    assert {name.removesuffix(".jinja") for name in holders} <= looked_at | {
        Path("{{ _copier_conf.answers_file }}.jinja").stem
    }
