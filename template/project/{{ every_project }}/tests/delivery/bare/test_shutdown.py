"""What becomes of nice-to-have tasks when the process is told to stop."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.delivery.support.api import Api
from tests.delivery.support.reaper import Reaper

Start = Callable[[int], Api]


@pytest.fixture
def start(tmp_path: Path, reaper: Reaper) -> Iterator[Start]:
    """Start the API with a grace period of so many seconds."""
    started = []

    def start_api(grace_seconds: int) -> Api:
        api = Api(
            "tests.delivery.support.lingering:app",
            tmp_path,
            reaper,
            grace_seconds=grace_seconds,
        )
        started.append(api)
        api.start()
        return api

    yield start_api
    for api in started:
        api.close()


def enqueue(api: Api, folder: Path) -> None:
    """Enqueue a task that waits until it may go on, and one after it."""
    wish = {"until": str(folder / "may go on"), "trace": str(folder / "trace")}
    assert api.http.post("/linger", json=wish).status_code == 202


def test_tasks_run_within_the_grace_period(start: Start, tmp_path: Path) -> None:
    api = start(3600)
    enqueue(api, tmp_path)

    api.ask_to_end()
    assert not (tmp_path / "trace").exists()
    (tmp_path / "may go on").touch()
    api.wait_until_ended()

    assert (tmp_path / "trace").exists()
    assert "dropped" not in api.log()


def test_tasks_are_dropped_by_name_after_the_grace_period(
    start: Start, tmp_path: Path
) -> None:
    api = start(1)
    enqueue(api, tmp_path)

    api.ask_to_end()
    api.wait_until_ended()

    assert not (tmp_path / "trace").exists()
    assert api.log().count("dropped linger") == 1
    assert api.log().count("dropped leave_trace") == 1
