"""Turn rendered files into a project that runs and can be updated: after a render."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hooks.commands import git, run, uv
from hooks.conflicts import find_conflicts
from hooks.refusal import Refusal


def install(project: Path, _: str) -> str | None:
    """Lock the dependencies and install them into the project's own environment."""
    if "pyproject.toml" in find_conflicts(project):
        return "run `uv sync` once the conflicts in pyproject.toml are resolved"
    # The interpreter that runs us is known to be there and to be new enough; one that
    # was chosen earlier stays.
    chosen = (project / ".venv").exists()
    _run_or_refuse(
        uv("sync", *(() if chosen else ("--python", sys.executable))), project
    )
    return None


def start_repository(project: Path, _: str) -> str | None:
    """Put the project under git, without which it could not be updated."""
    if git(project, "rev-parse", "--is-inside-work-tree").ok:
        return "the folder is part of a git repository, and stays so"
    _run_or_refuse(["git", "init", "--initial-branch", "main"], project)
    return None


def commit(project: Path, project_name: str) -> str | None:
    """Make the first commit, which a later update compares with."""
    if not (project / ".git").exists():
        return "commit the folder yourself: it has no git repository of its own"
    _run_or_refuse(["git", "add", "--all"], project)
    if not git(project, "var", "GIT_COMMITTER_IDENT").ok:
        return "git does not know you: set its user.name and user.email, then commit"
    _run_or_refuse(
        ["git", "commit", "--quiet", "--message", f"Start {project_name}"], project
    )
    return None


def install_pre_commit(project: Path, _: str) -> str | None:
    """Let git run the project's checks before each commit."""
    program = project / ".venv/bin/pre-commit"
    if not program.exists() or not (project / ".git").exists():
        return (
            "run `uv run pre-commit install`"
            " once the project is installed and under git"
        )
    _run_or_refuse([str(program), "install"], project)
    return None


def run_tests(project: Path, _: str) -> str | None:
    """Let the project's own tests that need no server judge it."""
    python = project / ".venv/bin/python"
    if not python.exists():
        return "run `uv run pytest` once the project is installed"
    _run_or_refuse([str(python), "-m", "pytest", "--quiet"], project)
    return None


@dataclass(frozen=True)
class Step:
    """Something that follows a render unless it is declined.

    `run` gets the project's folder and name, returns in one line what remains for the
    user to do (None: nothing), and raises `Refusal` when a program failed.
    """

    name: str
    title: str
    run: Callable[[Path, str], str | None]


INSTALL = Step("install", "lock and install the dependencies", install)
TEST = Step("test", "tests that need no server", run_tests)

NEW = (
    INSTALL,
    Step("git", "git repository", start_repository),
    Step("commit", "first commit", commit),
    Step("pre-commit", "checks before each commit", install_pre_commit),
)


def _run_or_refuse(command: Sequence[str], project: Path) -> None:
    outcome = run(command, project)
    if not outcome.ok:
        name = Path(command[0]).name
        raise Refusal(f"`{name} {' '.join(command[1:])}` failed: {outcome.last_line}")
