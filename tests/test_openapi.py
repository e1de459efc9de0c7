"""What a project documents of its routes is what they answer, whatever is sent."""

import contextlib
import sys
from pathlib import Path

import pytest

from generator.rendering import render
from generator.variants import VARIANTS
from hooks.commands import run
from tests.serving import Deployment, check, deployments, install, servers

ROOT = Path(__file__).parent.parent
TOKEN = "secret-of-operators"  # noqa: S105 - of these tests only
CHECKS = ("not_a_server_error", "status_code_conformance")


@pytest.mark.parametrize(
    ("name", "database"),
    [
        ("nice-to-have", "none"),
        ("postgresql", "SQLite"),
        ("postgresql", "PostgreSQL"),
    ],
)
def test_no_answer_is_undocumented(name: str, database: str, tmp_path: Path) -> None:
    project = tmp_path / "project"
    answers = {"project_name": "Order Service", **VARIANTS[name].answers}
    render(ROOT, project, answers)
    install(project)

    settings = {"OPERATOR_TOKEN": TOKEN}
    with contextlib.ExitStack() as stack:
        if database == "SQLite":
            settings["DATABASE_URL"] = f"sqlite+aiosqlite:///{tmp_path}/app.db"
        if database == "PostgreSQL":
            settings |= stack.enter_context(servers(project, "postgresql"))
            check(project, "alembic", "upgrade", "heads", **settings)

        service = Deployment(project, settings)
        stack.enter_context(deployments(service))
        service.start(*(service.kinds if database == "PostgreSQL" else ["api"]))
        service.wait_until_ready()

        outcome = run(
            [
                *(str(Path(sys.executable).with_name("schemathesis")), "run"),
                f"{service.url}/openapi.json",
                f"--checks={','.join(CHECKS)}",
                f"--header=Authorization: Bearer {TOKEN}",
                *("--max-examples=60", "--seed=1", "--no-color"),
            ],
            tmp_path,
            time_limit=600,
        )
        assert outcome.ok, outcome.output[-20_000:]
