"""What a worker and a relay load, each time that one starts or is started again."""

import shutil
import sys
from pathlib import Path

from tests.delivery.support.processes import ROOT, run
from tests.delivery.support.reaper import Reaper


def test_workers_and_relays_start_without_fastapi(
    tmp_path: Path, reaper: Reaper
) -> None:
    shutil.copytree(
        ROOT / "app", tmp_path / "app", ignore=shutil.ignore_patterns("tasks")
    )
    # The service's own tasks may import what they like.
    (tmp_path / "app/tasks").mkdir()

    code = "import sys, app.delivery.engine, app.delivery.relay; print(*sys.modules)"
    done = run(sys.executable, "-c", code, folder=tmp_path, reaper=reaper)
    loaded = set(done.stdout.split())
    assert {"app.delivery.engine", "app.delivery.relay"} <= loaded, done.stderr
    assert not {"app.dependencies", "fastapi", "starlette"} & loaded
