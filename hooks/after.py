"""After a render: what turns rendered files into a project that runs and can be updated."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from generator.commands import run, uv
from generator.refusal import Refusal


def install(project: Path, _: str) -> str | None:
    """Lock the dependencies and install them into the project's own environment."""
    # The interpreter that runs us is known to be there and to be new enough.
    _run_or_refuse(uv("sync", "--python", sys.executable), project)
    return None


def start_history(project: Path, project_name: str) -> str | None:
    """Put the project under git with a first commit, which a later update compares with."""
    if run(["git", "rev-parse", "--is-inside-work-tree"], project).ok:
        return "the folder is part of a git repository: commit it there"
    _run_or_refuse(["git", "init", "--initial-branch", "main"], project)
    _run_or_refuse(["git", "add", "--all"], project)
    if not run(["git", "var", "GIT_COMMITTER_IDENT"], project).ok:
        return "git does not know you: set its user.name and user.email, then commit"
    _run_or_refuse(["git", "commit", "--quiet", "--message", f"Start {project_name}"], project)
    return None


def install_pre_commit(project: Path, _: str) -> str | None:
    """Let git run the project's checks before each commit."""
    program = project / ".venv/bin/pre-commit"
    if not program.exists() or not (project / ".git").exists():
        return "run `uv run pre-commit install` once the project is installed and under git"
    _run_or_refuse([str(program), "install"], project)
    return None


@dataclass(frozen=True)
class Step:
    """Something that follows a render unless it is declined.

    `run` gets the project's folder and name, returns in one line what remains for the user to do
    (None: nothing), and raises `Refusal` when a program failed.
    """

    name: str
    title: str
    run: Callable[[Path, str], str | None]


STEPS = (
    Step("install", "lock and install the dependencies", install),
    Step("git", "git repository with a first commit", start_history),
    Step("pre-commit", "checks before each commit", install_pre_commit),
)


def _run_or_refuse(command: Sequence[str], project: Path) -> None:
    outcome = run(command, project)
    if not outcome.ok:
        name = Path(command[0]).name
        raise Refusal(f"`{name} {' '.join(command[1:])}` failed: {outcome.last_line}")
