"""Copy the project and put probes into it: production code has no test-only tasks.

The copy also proves that a new module in `app/tasks/` needs no registration anywhere.
"""

import shutil
from pathlib import Path

from tests.delivery.support.processes import ROOT, read_procfile, run
from tests.delivery.support.reaper import Reaper

SUPPORT = Path(__file__).parent


class Project:
    """The copied project: its folder and its `Procfile` lines."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(
            ROOT / "app", folder / "app", ignore=shutil.ignore_patterns("__pycache__")
        )
        shutil.copytree(ROOT / "migrations", folder / "migrations")
        for name in ("alembic.ini", "pyproject.toml"):
            shutil.copy(ROOT / name, folder)

        self.add_task_module("probes", (SUPPORT / "probe_tasks.py").read_text())
        routes = (SUPPORT / "probe_api.py").read_text()
        (folder / "app/probe_api.py").write_text(
            routes.replace("tests.delivery.support.probe_tasks", "app.tasks.probes")
        )

        self.commands = read_procfile(ROOT / "Procfile")
        self.commands["api"] = self.commands["api"].replace(
            "app.main:app", "app.probe_api:app"
        )

    def add_task_module(self, name: str, source: str) -> None:
        """Write a module into `app/tasks/`, for the processes that start after this."""
        (self.folder / "app" / "tasks" / f"{name}.py").write_text(source)

    def migrate(self, database_url: str, reaper: Reaper) -> None:
        """Bring a database to the newest revision."""
        command = ("alembic", "upgrade", "heads")
        done = run(
            *command, folder=self.folder, reaper=reaper, DATABASE_URL=database_url
        )
        assert done.returncode == 0, done.stderr[-3000:]
