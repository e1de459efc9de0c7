"""Refuse what would spoil a render, before it, while nothing has been written."""

import shutil
from pathlib import Path

from hooks.commands import git
from hooks.conflicts import find_conflicts
from hooks.refusal import Refusal


def check_tools() -> None:
    """Refuse to start without git.

    Raises:
        Refusal: git is not on the PATH.
    """
    if shutil.which("git") is None:
        raise Refusal("git is not on the PATH: install it first")


def check_target(target: Path, template: Path) -> None:
    """Refuse a target that would overwrite something or end up inside the template.

    Raises:
        Refusal: The target is neither an empty nor an absent folder, or lies in the
            template.
    """
    if target.exists() and not target.is_dir():
        raise Refusal(f"{target} is a file: choose a folder that does not exist yet")

    if target.is_dir() and any(target.iterdir()):
        raise Refusal(f"{target} is not empty: choose a folder that does not exist yet")

    if target.resolve().is_relative_to(template):
        raise Refusal(
            f"{target} is inside the template {template}: choose a folder outside it"
        )


def check_project(project: Path) -> None:
    """Refuse a project in which git could not tell an update's changes from the user's.

    Raises:
        Refusal: The project is not under git, or something in it waits for a decision
            or a commit.
    """
    if not git(project, "rev-parse", "--is-inside-work-tree").ok:
        raise Refusal(
            f"{project} is not under git: commit it, so that an update can be undone"
        )

    if conflicts := find_conflicts(project):
        files = ", ".join(conflicts)
        raise Refusal(
            f"{project} has unresolved conflicts: resolve and commit {files} first"
        )

    status = git(project, "status", "--porcelain", "--", ".")
    if not status.ok:
        raise Refusal(f"git does not work in {project}: {status.last_line}")
    if status.output.strip():
        count = len(status.output.splitlines())
        raise Refusal(
            f"{project} has uncommitted changes ({count}): commit or stash them first"
        )
