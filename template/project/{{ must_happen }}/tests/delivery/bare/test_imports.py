"""What each process loads, every time that one starts or is started again."""

import ast
import shutil
import sys
from pathlib import Path

from tests.delivery.support.parts import TOLD
from tests.delivery.support.processes import ROOT, run
from tests.delivery.support.reaper import Reaper


def loaded_by(imported: str, folder: Path, reaper: Reaper) -> set[str]:
    """Import these without routes and tasks, and return every module that is loaded.

    The service's own routes and tasks may import what they like.
    """
    shutil.copytree(
        ROOT / "app", folder / "app", ignore=shutil.ignore_patterns("api", "tasks")
    )
    (folder / "app/tasks").mkdir()
    shutil.copytree(ROOT / "app/api", folder / "app/api", ignore=_all_but_init)
    code = f"import sys, {imported}; print(*sys.modules)"
    done = run(sys.executable, "-c", code, folder=folder, reaper=reaper)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def _all_but_init(_: str, names: list[str]) -> set[str]:
    return set(names) - {"__init__.py"}


def packages_imported(path: Path) -> set[str]:
    """Return the packages that a module imports at its start."""
    body = ast.parse(path.read_text()).body
    modules = [
        a.name for node in body if isinstance(node, ast.Import) for a in node.names
    ]
    modules += [node.module or "" for node in body if isinstance(node, ast.ImportFrom)]
    return {module.partition(".")[0] for module in modules}


def test_other_processes_start_without_fastapi(tmp_path: Path, reaper: Reaper) -> None:
    loaded = loaded_by(f"app.delivery.engine, {TOLD.module}", tmp_path, reaper)
    assert {"app.delivery.engine", TOLD.module} <= loaded
    assert not {"app.dependencies", "fastapi", "starlette"} & loaded


def test_api_starts_without_the_engine_and_its_client(
    tmp_path: Path, reaper: Reaper
) -> None:
    engine = ROOT / "app/delivery/engine.py"
    others = {path for path in (ROOT / "app").rglob("*.py") if path != engine}
    clients = packages_imported(engine) - sys.stdlib_module_names
    clients -= set().union(*map(packages_imported, others))
    loaded = loaded_by("app.main", tmp_path, reaper)
    assert "fastapi" in loaded
    assert not {"app.delivery.engine", TOLD.module, *clients} & loaded
