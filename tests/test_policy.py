"""What keeps old projects updatable: rules for maintainers, as far as a program can hold them.

The rules are in CONTRIBUTING.md, the facts behind them in docs/decisions.
"""

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from generator.rendering import read_questions
from generator.variants import Variant
from tests.conftest import ROOT

TREE = ROOT / "template/project"
MUST_HAPPEN = "{% if delivery == 'must_happen' %}"
RECORD = Path(__file__).with_name("questions.yml")

# Where people write: these paths stay, whatever is answered. A path that left would take along what
# they wrote there, without a word.
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
    "app/main.py",
    "app/settings.py",
    "app/tasks/__init__.py",
    "app/tasks/signups.py",
    "compose.yaml",
    "docs/delivery.md",
    "pyproject.toml",
}
WHERE_TASKS_MUST_HAPPEN = {
    "alembic.ini",
    "app/api/orders.py",
    "app/database.py",
    "app/delivery/engine.py",
    "app/models.py",
    "app/tasks/orders.py",
    "migrations/env.py",
    "migrations/script.py.mako",
    # A database remembers which of these it has seen.
    "migrations/versions/ledger_0001_create_tasks.py",
    "migrations/versions/orders_0001_create_orders_and_payments.py",
}
# Rooms of the template's own: what is in them may come and go.
OURS = ("app/delivery/", "tests/", "{{ _copier_conf.answers_file }}")

# Each of them makes Copier ask for trust, or breaks the updates of older projects.
FORBIDDEN = {"_tasks", "_jinja_extensions", "_migrations", "_exclude", "_skip_if_exists"}


def sources() -> list[str]:
    """Return the paths of the template's files, with their conditions."""
    return [
        str(path.relative_to(TREE)).removesuffix(".jinja")
        for path in TREE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]


def unconditional(source: str) -> str:
    return source.replace(MUST_HAPPEN, "").replace("{% endif %}", "")


def test_the_paths_where_people_write_stay() -> None:
    assert {path for path in sources() if not path.startswith(OURS) and "{" not in path} == (
        EVERYWHERE
    )
    conditional = {path for path in sources() if "{" in path}
    found = {unconditional(path) for path in conditional if MUST_HAPPEN in path}
    assert found >= WHERE_TASKS_MUST_HAPPEN
    theirs = {unconditional(path) for path in conditional if not path.startswith(OURS)}
    assert theirs <= WHERE_TASKS_MUST_HAPPEN


def test_every_variant_has_them(variant: Variant, project: Path) -> None:
    expected = EVERYWHERE | (WHERE_TASKS_MUST_HAPPEN if variant.has_broker else set())
    assert sorted(path for path in expected if not (project / path).is_file()) == []


def test_the_template_asks_for_no_trust_and_skips_nothing() -> None:
    settings = set(yaml.safe_load((ROOT / "copier.yml").read_text()))
    assert settings & FORBIDDEN == set()


def test_migrations_of_the_ledger_form_one_chain() -> None:
    texts = [
        path.read_text()
        for path in TREE.rglob("ledger_*.py")
        if "migrations" in str(path.relative_to(TREE))
    ]
    chain = {str(_assigned("revision", text)): _assigned("down_revision", text) for text in texts}
    assert list(chain.values()).count(None) == 1
    assert {each for each in chain.values() if each} == chain.keys() - {max(chain)}


def _assigned(name: str, text: str) -> str | None:
    [value] = re.findall(rf"^{name} = (.+)$", text, re.MULTILINE)
    return None if value == "None" else value.strip('"')


def fingerprint(questions: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what decides which answer a project has that was not asked."""
    return {
        name: {
            key: _choices(details[key]) if key == "choices" else _in_one_line(details[key])
            for key in ("type", "when", "default", "choices")
            if key in details
        }
        for name, details in questions.items()
    }


def _choices(choices: dict[str, Any]) -> list[str]:
    return [each["value"] if isinstance(each, dict) else each for each in choices.values()]


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
                f"{name} no longer offers {choice}: those who chose it would get the default"
                for choice in details.get("choices", [])
                if choice not in kept
            ]
    return found


def test_the_questions_are_those_on_record() -> None:
    records = yaml.safe_load(RECORD.read_text())
    assert fingerprint(dict(read_questions(ROOT))) == records[-1]["questions"], (
        f"a question changed: add an entry to {RECORD.name}, with a note that says what becomes of"
        " projects that have the old answer"
    )
    assert objections(records) == []


@pytest.mark.parametrize(
    ("note", "name", "choices", "expected"),
    [
        ("ARQ is gone", "engine", ["celery", "dramatiq"], ["engine no longer offers arq"]),
        ("", "engine", ["celery", "dramatiq", "arq"], ["a change has no note"]),
        ("A better name", "queue", ["celery", "dramatiq", "arq"], ["engine is gone"]),
        ("One more", "engine", ["taskiq", "celery", "dramatiq", "arq"], []),
    ],
)
def test_a_change_that_leaves_somebody_behind_is_noticed(
    note: str, name: str, choices: list[str], expected: list[str]
) -> None:
    records = [
        {"note": "", "questions": {"engine": {"choices": ["celery", "dramatiq", "arq"]}}},
        {"note": note, "questions": {name: {"choices": choices}}},
    ]

    found = objections(records)
    assert [each[: len(start)] for each, start in zip(found, expected, strict=True)] == expected
