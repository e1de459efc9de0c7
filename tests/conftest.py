"""Share among the tests: each variant rendered once, the command, and what it ran."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from generator import cli
from generator.rendering import render
from generator.variants import VARIANTS, Variant
from hooks.commands import run, uv
from tests.releases import Template

ROOT = Path(__file__).parent.parent

collect_ignore = ["lived_in"]  # runs where people put it: in a generated project

Command = Callable[..., subprocess.CompletedProcess[str]]


# What takes longest starts first, so that it ends side by side with the rest.
LONG = ("test_lived_in.py", "test_check.py", "test_live_switch.py")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the lived-in project and the live switch leave nothing out."""
    parser.addoption(
        "--full",
        action="store_true",
        help="all tests of a lived-in project, and all pairs of engines",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what takes longest first."""
    items.sort(
        key=lambda item: (
            LONG.index(item.path.name) if item.path.name in LONG else len(LONG)
        )
    )


@pytest.fixture(params=list(VARIANTS.values()), ids=list(VARIANTS))
def variant(request: pytest.FixtureRequest) -> Variant:
    """Return one variant after the other."""
    found: Variant = request.param
    return found


@pytest.fixture(scope="session")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the rendered projects, which no test changes."""
    return tmp_path_factory.mktemp("projects")


@pytest.fixture
def project(variant: Variant, projects: Path) -> Path:
    """Return the variant's rendered project."""
    folder = projects / variant.name
    if not folder.exists():
        render(ROOT, folder, {"project_name": "Order Service", **variant.answers})
    return folder


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """Return the working tree's template in a repository, which no test changes."""
    return Template(tmp_path_factory.mktemp("template"))


@pytest.fixture(scope="session")
def started(
    template: Template, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Path]:
    """Return a project of each variant under git, to copy but not to change."""
    folder = tmp_path_factory.mktemp("started")
    return {
        name: template.generate(folder / name, variant)
        for name, variant in VARIANTS.items()
    }


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project whose environment has Hypothesis too."""
    folder = tmp_path_factory.mktemp("with-hypothesis") / "service"
    variant = VARIANTS["dramatiq-redis"]
    render(ROOT, folder, {"project_name": "Order Service", **variant.answers})

    for command in (
        uv("sync", "--python", sys.executable),
        uv("pip", "install", "--compile-bytecode", "hypothesis>=6.150,<7"),
    ):
        outcome = run(command, folder)
        assert outcome.ok, outcome.output

    return folder


@pytest.fixture
def musthappen(tmp_path: Path) -> Command:
    """Run the command as a user does, in an empty folder and without a terminal."""

    def run(
        *arguments: str, time_limit: float = 1200
    ) -> subprocess.CompletedProcess[str]:
        with subprocess.Popen(
            [Path(sys.executable).parent / "musthappen", *arguments],
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "100"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                said = process.communicate(timeout=time_limit)
            except BaseException:
                _stop(process)
                raise

        return subprocess.CompletedProcess(process.args, process.returncode, *said)

    return run


def _stop(process: subprocess.Popen[str]) -> None:
    """Let the command end what it has started, and make sure that it ends itself."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=120)
    process.kill()


@pytest.fixture
def musthappen_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Command:
    """Run the command likewise, but in this process: starting one takes a second."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["musthappen", *arguments])
        capfd.readouterr()

        with pytest.raises(SystemExit) as end:
            cli.main()

        said = capfd.readouterr()
        code = end.value.code if isinstance(end.value.code, int) else 0
        return subprocess.CompletedProcess(sys.argv, code, said.out, said.err)

    return run


@pytest.hookimpl(wrapper=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter,
) -> Iterator[None]:
    """Say at the end how many tests each variant ran."""
    yield

    rows = [
        value
        for report in terminalreporter.getreports("passed")
        + terminalreporter.getreports("failed")
        if report.when == "call"
        for key, value in report.user_properties
        if key == "tests of a variant"
    ]
    if rows:
        terminalreporter.section("tests run inside the generated projects")
        for row in sorted(rows):
            terminalreporter.write_line(row)
