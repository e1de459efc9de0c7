"""What keeps old projects updatable: the rules that a program can hold maintainers to.

The rules are in CONTRIBUTING.md, the facts behind them in docs/decisions.
"""

import itertools
import re
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from copier import run_copy

from generator.rendering import ANSWERS, read_questions
from generator.variants import Variant
from tests.conftest import ROOT
from tests.test_rendering import files

TREE = ROOT / "template/project"
EVERY_PROJECT, MUST_HAPPEN, WITH_BROKER, NICE_TO_HAVE = (
    "{{ every_project }}",
    "{{ must_happen }}",
    "{{ with_broker }}",
    "{{ nice_to_have }}",
)
ANSWERS_FILE = "{{ _copier_conf.answers_file }}.jinja"
"""Copier wants it in the root, beside the layers."""
RECORD = Path(__file__).with_name("questions.yml")

# Where people write: these paths stay, whatever is answered. A path that left would
# take along what they wrote there, without a word.
EVERYWHERE = {
    ".dockerignore",
    ".env.example",
    ".github/workflows/ci.yml",
    ".gitignore",
    ".pre-commit-config.yaml",
    "Dockerfile",
    "Procfile",
    "README.md",
    "app/__init__.py",
    "app/api/__init__.py",
    "app/api/signups.py",
    "app/dependencies.py",
    "app/errors.py",
    "app/main.py",
    "app/scripts/__init__.py",
    "app/settings.py",
    "app/tasks/__init__.py",
    "app/tasks/signups.py",
    "compose.yaml",
    "docs/delivery.md",
    "pyproject.toml",
    "tests/conftest.py",
    "tests/test_signups.py",
}
WHERE_TASKS_MUST_HAPPEN = {
    "alembic.ini",
    "app/api/orders.py",
    "app/database.py",
    "app/database_url.py",
    "app/delivery/engine.py",
    "app/models.py",
    "app/tasks/orders.py",
    "migrations/env.py",
    "migrations/script.py.mako",
    # A database remembers which of these it has seen.
    "migrations/versions/ledger_0001_create_tasks.py",
    "migrations/versions/orders_0001_create_orders_and_payments.py",
    "tests/test_orders.py",
    "tests/test_orders_on_servers.py",
}
# Rooms of the template's own: what is in them may come and go.
OURS = ("app/delivery/", "tests/delivery/")

# Each of them makes Copier ask for trust, or breaks the updates of older projects.
FORBIDDEN = {
    "_tasks",
    "_jinja_extensions",
    "_migrations",
    "_exclude",
    "_skip_if_exists",
}


def sources(tree: Path = TREE) -> dict[str, set[str]]:
    """Return the paths of the template's files, as rendered, by their layer."""
    found: dict[str, set[str]] = {}
    for path in tree.glob("*/**/*"):
        if path.is_file() and "__pycache__" not in path.parts:
            layer, *parts = path.relative_to(tree).parts
            found.setdefault(layer, set()).add("/".join(parts).removesuffix(".jinja"))
    return found


def conditional(layers: Mapping[str, Collection[str]]) -> list[str]:
    """Return which paths hold an expression below the layers' own folders."""
    return sorted(
        path for paths in layers.values() for path in paths if re.search(r"[{}%]", path)
    )


def collisions(
    layers: Mapping[str, Collection[str]], tree_of: Collection[str]
) -> list[str]:
    """Return the paths that more than one of these layers would render."""
    count = Counter(path for layer in tree_of for path in layers.get(layer, ()))
    return sorted(path for path, number in count.items() if number > 1)


def test_the_layers_are_those_that_the_questions_compute() -> None:
    config = yaml.safe_load((ROOT / "copier.yml").read_text())
    computed = {
        name
        for name in config.keys() - read_questions(ROOT)
        if not name.startswith("_")
    }
    folders = {path.name for path in TREE.iterdir()} - {ANSWERS_FILE}
    assert folders == {f"{{{{ {name} }}}}" for name in computed}


def test_only_a_layers_own_folder_holds_a_condition() -> None:
    assert conditional(sources()) == []


def test_a_condition_in_a_path_is_noticed() -> None:
    layers = {
        "{{ every_project }}": {
            "app/{{ name }}.py",
            "{% if cron %}cron{% endif %}",
            "app/a.py",
        }
    }
    assert conditional(layers) == ["app/{{ name }}.py", "{% if cron %}cron{% endif %}"]


def layers_of(project: Path) -> list[str]:
    """Return the folders of the layers that a rendered project is made of."""
    answers = yaml.safe_load((project / ANSWERS).read_text())
    layers = [EVERY_PROJECT, f"{{{{ {answers['delivery']} }}}}"]
    return layers + [WITH_BROKER] * ("broker" in answers)


def test_no_two_layers_hold_one_path_for_the_same_answers(project: Path) -> None:
    layers = sources()
    chosen = layers_of(project)
    assert collisions(layers, chosen) == []
    rendered = {path for layer in chosen for path in layers[layer]}
    assert rendered == {str(path.relative_to(project)) for path in files(project)} - {
        ANSWERS
    }


def test_a_path_in_two_layers_is_noticed() -> None:
    layers = {
        "one": {"app/a.py", "app/b.py"},
        "other": {"app/b.py"},
        "third": {"app/a.py"},
    }
    assert collisions(layers, ["one", "other"]) == ["app/b.py"]


@pytest.mark.parametrize(
    "name", ["every_project", "must_happen", "with_broker", "nice_to_have"]
)
def test_a_layer_cannot_be_answered(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is computed"):
        run_copy(
            str(ROOT),
            tmp_path / "project",
            data={"project_name": "Shop", name: "elsewhere"},
            vcs_ref="HEAD",
            defaults=True,
            quiet=True,
        )


def test_the_paths_where_people_write_stay() -> None:
    layers = sources()
    everywhere = layers[EVERY_PROJECT] | (layers[MUST_HAPPEN] & layers[NICE_TO_HAVE])
    assert theirs(everywhere) == EVERYWHERE
    assert theirs(layers[MUST_HAPPEN]) - EVERYWHERE <= WHERE_TASKS_MUST_HAPPEN
    assert layers[MUST_HAPPEN] >= WHERE_TASKS_MUST_HAPPEN
    assert theirs(layers[WITH_BROKER]) == set()


def theirs(paths: Collection[str]) -> set[str]:
    """Leave out of some paths the rooms of the template's own."""
    return {path for path in paths if not path.startswith(OURS)}


def test_every_variant_has_them(variant: Variant, project: Path) -> None:
    expected = EVERYWHERE | (WHERE_TASKS_MUST_HAPPEN if variant.must_happen else set())
    assert sorted(path for path in expected if not (project / path).is_file()) == []


def test_the_template_asks_for_no_trust_and_skips_nothing() -> None:
    settings = set(yaml.safe_load((ROOT / "copier.yml").read_text()))
    assert settings & FORBIDDEN == set()


def test_migrations_of_the_ledger_form_one_chain() -> None:
    texts = [
        path.read_text() for path in TREE.glob("*/migrations/versions/ledger_*.py")
    ]
    chain = {
        str(_assigned("revision", text)): _assigned("down_revision", text)
        for text in texts
    }
    assert list(chain.values()).count(None) == 1
    assert {each for each in chain.values() if each} == chain.keys() - {max(chain)}


def _assigned(name: str, text: str) -> str | None:
    [value] = re.findall(rf"^{name} = (.+)$", text, re.MULTILINE)
    return None if value == "None" else value.strip('"')


def fingerprint(questions: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what decides which answer a project has that was not asked."""
    return {
        name: {
            key: _choices(details[key])
            if key == "choices"
            else _in_one_line(details[key])
            for key in ("type", "when", "default", "choices")
            if key in details
        }
        for name, details in questions.items()
    }


def _choices(choices: dict[str, Any]) -> list[str]:
    return [
        each["value"] if isinstance(each, dict) else each for each in choices.values()
    ]


def _in_one_line(value: object) -> str:
    return " ".join(str(value).split())


def objections(records: list[dict[str, Any]]) -> list[str]:
    """Return what later questions would do to those who answered earlier ones."""
    found = []
    for older, newer in itertools.pairwise(records):
        if not newer.get("note"):
            found.append("a change has no note for those who answered before")

        for name, details in older["questions"].items():
            if name not in newer["questions"]:
                found.append(f"{name} is gone: answers to it would be forgotten")
                continue
            kept = newer["questions"][name].get("choices", [])
            found += [
                f"{name} no longer offers {choice}:"
                " those who chose it would get the default"
                for choice in details.get("choices", [])
                if choice not in kept
            ]

    return found


def test_the_questions_are_those_on_record() -> None:
    records = yaml.safe_load(RECORD.read_text())
    assert fingerprint(dict(read_questions(ROOT))) == records[-1]["questions"], (
        f"a question changed: add an entry to {RECORD.name}, with a note that says"
        " what becomes of projects that have the old answer"
    )
    assert objections(records) == []


@pytest.mark.parametrize(
    ("note", "name", "choices", "expected"),
    [
        (
            "ARQ is gone",
            "engine",
            ["celery", "dramatiq"],
            ["engine no longer offers arq"],
        ),
        ("", "engine", ["celery", "dramatiq", "arq"], ["a change has no note"]),
        ("A better name", "queue", ["celery", "dramatiq", "arq"], ["engine is gone"]),
        ("One more", "engine", ["taskiq", "celery", "dramatiq", "arq"], []),
    ],
)
def test_a_change_that_leaves_somebody_behind_is_noticed(
    note: str, name: str, choices: list[str], expected: list[str]
) -> None:
    records = [
        {
            "note": "",
            "questions": {"engine": {"choices": ["celery", "dramatiq", "arq"]}},
        },
        {"note": note, "questions": {name: {"choices": choices}}},
    ]

    found = objections(records)
    assert [
        each[: len(start)] for each, start in zip(found, expected, strict=True)
    ] == expected
