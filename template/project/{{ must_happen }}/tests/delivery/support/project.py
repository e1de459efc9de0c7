"""A copy of the project with probe tasks in it, because production code has no test-only tasks.

The copy also proves that a new module in `app/tasks/` needs no registration anywhere.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.delivery.support.processes import read_procfile

ROOT = Path(__file__).parents[3]
SUPPORT = Path(__file__).parent

PROBE_TABLES = (
    """
    CREATE TABLE probe_starts (
        task_id uuid NOT NULL,
        attempt integer NOT NULL,
        pid integer NOT NULL,
        at timestamptz NOT NULL DEFAULT clock_timestamp()
    )
    """,
    "CREATE TABLE probe_effects (task_id uuid NOT NULL, attempt integer NOT NULL)",
    "CREATE TABLE probe_requests (task_id uuid NOT NULL UNIQUE DEFERRABLE INITIALLY DEFERRED)",
)


class Project:
    """The copied project: its folder and its `Procfile` lines."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(
            ROOT / "app", folder / "app", ignore=shutil.ignore_patterns("__pycache__")
        )
        shutil.copytree(ROOT / "migrations", folder / "migrations")
        for name in ("alembic.ini", "pyproject.toml"):
            if (ROOT / name).exists():
                shutil.copy(ROOT / name, folder)
        self.add_task_module("probes", (SUPPORT / "probe_tasks.py").read_text())
        shutil.copy(SUPPORT / "probe_api.py", folder / "app")
        commands = read_procfile(ROOT / "Procfile")
        commands["api"] = commands["api"].replace("app.main:app", "app.probe_api:app")
        self.commands = commands

    def add_task_module(self, name: str, source: str) -> None:
        """Write a module into `app/tasks/`, for the processes that start after this."""
        (self.folder / "app" / "tasks" / f"{name}.py").write_text(source)

    def run(self, *arguments: str, environment: dict[str, str]) -> None:
        """Run `python` with these arguments in the project's folder until it exits."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (
            f"{arguments} exited {done.returncode}:\n{done.stderr[-3000:]}"
        )
