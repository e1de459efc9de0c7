"""What becomes of nice-to-have tasks when the process is told to stop."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.delivery.bare.processes import Service

GRACE_PERIOD = "--timeout-graceful-shutdown 30"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path, "tests.delivery.bare.lingering:app")
    assert GRACE_PERIOD in service.command
    service.command = service.command.replace(
        GRACE_PERIOD, "--timeout-graceful-shutdown 2"
    )
    service.start()
    yield service
    service.close()


def test_tasks_run_within_the_grace_period_and_are_dropped_by_name_after_it(
    service: Service, tmp_path: Path
) -> None:
    for seconds, trace in ((0.5, "within"), (3600, "after")):
        wish = {"seconds": seconds, "trace": str(tmp_path / trace)}
        assert service.http.post("/linger", json=wish).status_code == 202
    assert not (tmp_path / "within").exists()
    service.terminate()
    assert (tmp_path / "within").exists()
    assert not (tmp_path / "after").exists()
    assert service.log().count("dropped linger") == 1
    assert service.log().count("dropped leave_trace") == 1
