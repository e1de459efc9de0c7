"""What is rendered is complete, tidy, and says nothing of what was not chosen."""

import ast
import filecmp
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from generator.rendering import ANSWERS, render
from generator.variants import VARIANTS, Variant
from tests.conftest import ROOT

BIN = Path(sys.executable).parent

# What gives away that an engine or a broker was considered.
WORDS = {
    "celery": r"celery|kombu|billiard|flower",
    "arq": r"(?<![a-z])arq(?![a-z])",
    "dramatiq": r"dramatiq|periodiq",
    "redis": r"redis|valkey",
    # `app.amqp` is Celery's own, on any broker.
    "rabbitmq": r"rabbit|(?<!app\.)amqp|pika",
}
BROKER_WORDS = r"\bbrokers?\b|broker_|\brelay"
# What a service that does without a broker must know of one: that there is none, what
# one was handed before, and when one pays.
NAME_BROKERS = {
    "docs/delivery.md",
    *(f"app/delivery/{name}.py" for name in ("engine", "ledger", "worker")),
    *(f"tests/delivery/bare/test_{name}.py" for name in ("ledger", "worker")),
}
MUST_HAPPEN_WORDS = (
    r"alembic|sqlalchemy|sqlite|asyncpg|\brelay|\blease"
    r"|(database|broker)_url|operator_token"
)

LONGEST_NAME = "Wide Open Long Name of a Service in Town"


def files(project: Path) -> list[Path]:
    return sorted(path for path in project.rglob("*") if path.is_file())


def lines(project: Path) -> Iterator[tuple[str, str]]:
    """Yield every line, and every path, with the place where it is."""
    for path in files(project):
        place = str(path.relative_to(project))
        yield place, place
        for number, line in enumerate(path.read_text().splitlines(), 1):
            yield f"{place}:{number}", line


def found(project: Path, pattern: str) -> list[str]:
    """Return where a pattern occurs, but in the answers file and updating commands."""
    return [
        f"{place}: {line.strip()}"
        for place, line in lines(project)
        if re.search(pattern, line, re.IGNORECASE)
        and not place.startswith(ANSWERS)
        and ANSWERS not in line
        and "copier update" not in line
    ]


def test_plain_copier_renders_the_same_without_trust(
    variant: Variant, project: Path, tmp_path: Path
) -> None:
    data = [f"--data={key}={value}" for key, value in variant.answers.items()]
    data.append("--data=project_name=Order Service")

    copied = subprocess.run(
        [
            "copier",
            "copy",
            "--vcs-ref=HEAD",
            "--defaults",
            *data,
            ROOT,
            tmp_path / "project",
        ],
        executable=BIN / "copier",
        capture_output=True,
        text=True,
        check=False,
    )

    assert copied.returncode == 0, copied.stderr
    assert "uv run uvicorn app.main:app" in copied.stderr
    ours, theirs = project, tmp_path / "project"
    names = [path.relative_to(ours) for path in files(ours)]
    assert names == [path.relative_to(theirs) for path in files(theirs)]
    # It names a commit that exists only once where there are uncommitted changes.
    names.remove(Path(ANSWERS))
    assert filecmp.cmpfiles(ours, theirs, names, shallow=False)[1:] == ([], [])


def test_the_answers_are_remembered(variant: Variant, project: Path) -> None:
    answers = yaml.safe_load((project / ANSWERS).read_text())
    assert answers.pop("_src_path") == str(ROOT)
    answers.pop("_commit", None)
    assert answers == {
        "project_name": "Order Service",
        "project_slug": "order-service",
        **variant.answers,
    }


@pytest.mark.parametrize("name", ["X", "Order Service", LONGEST_NAME])
def test_whatever_its_name_it_is_formatted(
    variant: Variant, name: str, tmp_path: Path
) -> None:
    render(ROOT, tmp_path / "project", {"project_name": name, **variant.answers})

    formatted = subprocess.run(
        [BIN / "ruff", "format", "--diff", "--no-cache", tmp_path / "project"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert formatted.returncode == 0, formatted.stdout


def test_everything_parses(project: Path) -> None:
    for path in files(project):
        if path.suffix == ".py":
            ast.parse(path.read_text(), path)
        elif path.suffix in {".yml", ".yaml"}:
            yaml.safe_load(path.read_text())
        elif path.suffix == ".toml":
            tomllib.loads(path.read_text())


def test_nothing_is_empty(project: Path) -> None:
    assert [path for path in files(project) if not path.read_text().strip()] == []
    assert [
        path for path in project.rglob("*") if path.is_dir() and not any(path.iterdir())
    ] == []


def test_the_text_is_tidy(project: Path) -> None:
    for path in files(project):
        text = path.read_text()
        untidy = re.search(r"\A\s|[ \t]\n|\n{4}|\n\n\Z|[^\n]\Z", text)
        assert not untidy, f"{path}: {text[: untidy.end()][-200:]!r}"


def test_no_template_syntax_is_left(project: Path) -> None:
    assert found(project, r"(?<!\$)\{\{ |\{%|%\}|\{#|#\}") == []


def test_nothing_says_that_it_was_generated(project: Path) -> None:
    assert (
        found(
            project, r"copier|(?<!file_)template|jinja|\b(?-i:musthappen)\b|todo|fixme"
        )
        == []
    )


def test_nothing_of_what_was_not_chosen_is_left(
    variant: Variant, project: Path
) -> None:
    chosen = variant.answers.values()
    unwanted = [words for answer, words in WORDS.items() if answer not in chosen]
    if not variant.must_happen:
        unwanted.append(MUST_HAPPEN_WORDS)
    assert found(project, "|".join(unwanted)) == []


def test_nothing_of_a_broker_is_left_but_when_to_choose_one(projects: Path) -> None:
    project = projects / "postgresql"
    if not project.exists():
        answers = VARIANTS["postgresql"].answers
        render(ROOT, project, {"project_name": "Order Service", **answers})

    places = {line.partition(":")[0] for line in found(project, BROKER_WORDS)}
    assert places <= NAME_BROKERS
    told = (project / "docs/delivery.md").read_text()
    before, _, _ = told.partition("## Another engine\n")
    assert re.findall(f"(?:{BROKER_WORDS}).*", before) == [
        "broker pays** where one is operated anyway, where its monitors and routing are"
    ]


def test_the_app_stays_small(variant: Variant, project: Path) -> None:
    limit = 350 if not variant.must_happen else 2160 if variant.has_broker else 1920
    sources = [path.read_text() for path in (project / "app").rglob("*.py")]
    assert sum(map(statements, sources)) <= limit


def statements(text: str) -> int:
    """Count statements other than docstrings, however many lines they take."""
    layout = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
    number, first = 0, None

    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NEWLINE:
            number += first != tokenize.STRING
            first = None
        elif token.type not in layout and first is None:
            first = token.type

    return number


def test_comments_docstrings_and_wrapping_are_no_statements() -> None:
    text = (
        '"""Why."""\n\n# Note.\n\n'
        'def f():\n    """What.\n\n    """\n'
        '    x = (\n        1\n    )\n    return """x\n"""\n'
    )
    assert statements(text) == 3
