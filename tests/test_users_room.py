"""Users put tests, tasks and scripts of their own into a project, and those work.

They do alone and together, in any order, in several processes, and once the worked
example is deleted as the README says.
"""

import contextlib
import os
import re
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from generator.services import eventually
from generator.variants import VARIANTS, Variant
from hooks.commands import run, uv
from tests.releases import Template
from tests.serving import check, install

VARIANTS_HERE = [
    VARIANTS[name] for name in ("celery-redis", "postgresql", "nice-to-have")
]

TESTS = {
    "tests/api/test_x.py": '''
"""Routes."""

from app.main import app


def test_routes() -> None:
    assert "/livez" in app.openapi()["paths"]
''',
    "tests/test_mine.py": '''
"""Requests."""

from fastapi.testclient import TestClient


def test_it_lives(client: TestClient) -> None:
    assert client.get("/livez").status_code == 200
''',
}
"""What a user adds, beside the example of the README."""

NEVER_STARTS = {
    "api": """
import pytest

from tests.delivery.support import api, waiting


def test_start(monkeypatch, tmp_path, reaper):
    def look(answers, *, what):
        return waiting.eventually(lambda: False, within={seconds}, what=what)

    monkeypatch.setattr(api, "eventually", look)
    api.Api("app.main:app", tmp_path, reaper).start()
""",
    "service": """
import pytest

from tests.delivery.support import service as running
from tests.delivery.support import waiting


@pytest.fixture(scope="session", autouse=True)
def _impatient():
    def look(answers, *, what):
        return waiting.eventually(lambda: False, within={seconds}, what=what)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "eventually", look)
        yield


def test_start(service):
    pass
""",
}
"""Tests of a service that never answers, for all that they can see."""


@pytest.fixture(scope="module", params=VARIANTS_HERE, ids=lambda each: each.name)
def room(
    request: pytest.FixtureRequest,
    template: Template,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Return an installed project with tests of a user's own."""
    variant: Variant = request.param
    project = template.generate(tmp_path_factory.mktemp("room") / "project", variant)
    install(project)
    plugins = ("pytest-xdist", "pytest-randomly")
    python = ("--python", str(project / ".venv"))
    installed = run(uv("pip", "install", *python, *plugins), project)
    assert installed.ok, installed.output

    for path, text in TESTS.items():
        file = project / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(text.lstrip())
    if variant.must_happen:
        example, _ = examples(project)
        (project / "tests/test_reminders.py").write_text(example)
    return project


def examples(project: Path) -> list[str]:
    """Return the modules that the README shows: a test, and a script."""
    readme = (project / "README.md").read_text()
    blocks = re.findall("(?ms)^```python\n(.+?)^```", readme)
    return [block for block in blocks if block.startswith('"""')]


def own_tests(project: Path) -> list[str]:
    """Return the paths of the user's own tests."""
    paths = [*TESTS, "tests/test_reminders.py"]
    return [path for path in paths if (project / path).exists()]


def pass_in_any_way(project: Path) -> None:
    """Run the user's tests alone and together, and all tests in two processes."""
    for path in own_tests(project):
        check(project, "pytest", "-p", "no:randomly", path)
    check(project, "pytest", "-p", "no:randomly", *own_tests(project)[::-1])
    check(project, "pytest", "-n", "2")


def test_tests_of_ones_own_pass(room: Path) -> None:
    pass_in_any_way(room)
    check(room, "pytest", "-p", "randomly")
    check(room, "ruff", "check", "tests")
    check(room, "ruff", "format", "--check", "tests")
    check(room, "mypy")


def test_tests_of_ones_own_pass_without_the_worked_example(
    room: Path, tmp_path: Path
) -> None:
    bin_folder = room / ".venv"
    project = shutil.copytree(
        room, tmp_path / "project", ignore=shutil.ignore_patterns(".venv")
    )
    (project / ".venv").symlink_to(bin_folder)
    readme = (project / "README.md").read_text()
    [command] = re.findall("^rm .+$", readme, re.MULTILINE)
    subprocess.run(["bash", "-c", command], cwd=project, check=True)
    if (models := project / "app/models.py").exists():
        models.write_text('"""Hold this service\'s own tables."""\n')

    pass_in_any_way(project)
    assert not list(project.rglob("tests/test_orders*"))


def test_scripts_are_found_and_enqueue(room: Path, tmp_path: Path) -> None:
    script = room / "app/scripts/remind.py"
    if not (room / "alembic.ini").exists():
        script.write_text("import sys\n\nsys.exit(__name__ != '__main__')\n")
        check(room, "python", "-m", "app.scripts.remind")
        return
    example, script_text = examples(room)
    script.write_text(script_text)
    task = re.search(r"(?ms)^reminded: .+?append\(name\)\n", example)
    assert task
    tasks = room / "app/tasks/reminders.py"
    tasks.write_text(f"from app.delivery import must_happen\n\n{task.group()}")
    database = {"DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/app.db"}

    try:
        check(room, "alembic", "upgrade", "heads", **database)
        check(room, "python", "-m", "app.scripts.remind", **database)
    finally:
        tasks.unlink()

    with contextlib.closing(sqlite3.connect(tmp_path / "app.db")) as connection:
        found = connection.execute("SELECT name, status, queue FROM tasks").fetchall()
    assert found == [("remind", "queued", "reminders")]


def test_settings_that_were_read_too_early_stop_the_tests(
    room: Path,
) -> None:
    conftest = room / "tests/conftest.py"
    text = conftest.read_text()
    conftest.write_text(f"import app.settings\n{text}")
    try:
        outcome = run([str(room / ".venv/bin/pytest")], room)
    finally:
        conftest.write_text(text)

    assert not outcome.ok
    assert "Keep `import tests.delivery.isolation` first" in outcome.output


def test_ones_own_settings_are_left_out(room: Path) -> None:
    environment = {"MAX_BODY_BYTES": "1", "LEASE_SECONDS": "7", "PORT": "wrong"}
    dotenv = room / ".env"
    dotenv.write_text("DATABASE_URL=sqlite+aiosqlite:///./mine.db\nPORT=wrong\n")
    try:
        check(room, "pytest", "tests/test_signups.py", **environment)
    finally:
        dotenv.unlink()
    assert not (room / "mine.db").exists()


def processes_in(*places: Path) -> list[str]:
    """Return the command lines of what runs in these folders, or from them."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if any(
                str(place) in command
                or (process / "cwd").readlink().is_relative_to(place)
                for place in places
            ):
                found.append(command)

    return found


def api_runs(*places: Path) -> bool:
    """Return whether an API runs in one of these folders, or from it."""
    return any("uvicorn" in command for command in processes_in(*places))


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Return a folder that the user who runs PostgreSQL may pass through."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.mark.parametrize("killed", [False, True], ids=["failed", "killed"])
@pytest.mark.parametrize("kind", ["api", "service"])
def test_nothing_is_left_running(
    kind: str, killed: bool, room: Path, scratch: Path
) -> None:
    if kind == "service" and not (room / "alembic.ini").exists():
        return  # It has no servers.
    test = room / f"tests/test_{kind}_that_does_not_start.py"
    test.write_text(NEVER_STARTS[kind].format(seconds=600 if killed else 1))
    only = ["-m", "servers"] if kind == "service" else []
    here = (room, scratch)

    log = scratch / "tests.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [room / ".venv/bin/pytest", "-p", "no:randomly", test, *only],
            cwd=room,
            env={**os.environ, "CI": "true", "TMPDIR": str(scratch)},
            stdout=output,
            stderr=output,
        ) as tests,
    ):
        try:
            eventually(
                lambda: tests.poll() is not None or api_runs(*here),
                within=600,
                what="the API runs",
            )
            assert not killed or api_runs(*here), log.read_text()
        finally:
            if killed:
                tests.kill()
            tests.wait(600)
            test.unlink()

    assert killed or "not within 1 s" in log.read_text(), log.read_text()
    eventually(lambda: not processes_in(*here), within=120, what="nothing runs")
