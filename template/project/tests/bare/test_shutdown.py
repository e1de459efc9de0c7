"""What becomes of nice-to-have tasks when the process is told to stop."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bare.processes import Service


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path, "tests.bare.lingering:app")
    yield service
    service.close()


def test_tasks_run_within_the_grace_period(service: Service, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    service.start()
    answer = service.http.post("/linger", params={"seconds": 0.5, "trace": str(trace)})
    assert answer.status_code == 202
    assert not trace.exists()
    service.terminate()
    assert trace.exists()
    assert "dropped" not in service.log()


def test_tasks_past_the_grace_period_are_dropped_by_name(service: Service, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    period = "--timeout-graceful-shutdown "
    assert f"{period}30" in service.command
    service.command = service.command.replace(f"{period}30", f"{period}1")
    service.start()
    service.http.post("/linger", params={"seconds": 3600, "trace": str(trace)})
    service.terminate()
    assert not trace.exists()
    assert "dropped linger" in service.log()
    assert "dropped leave_trace" in service.log()
