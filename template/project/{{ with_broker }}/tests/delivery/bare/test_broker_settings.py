"""A wrong or missing broker stops what needs one, with one line."""

import sys
from pathlib import Path

import pytest

from app.settings import read_settings
from tests.delivery.support.processes import run
from tests.delivery.support.reaper import Reaper


def test_wrong_broker_is_named_but_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_URL", "https://user:hunter2@host")
    expected = r"\Awrong setting: BROKER_URL: .+\Z"
    with pytest.raises(SystemExit, match=expected) as stopped:
        read_settings()
    assert "hunter2" not in str(stopped.value)


def test_password_of_the_broker_is_not_shown() -> None:
    changed = read_settings().model_copy(update={"broker_url": "hunter2"})
    assert changed.broker_url == "hunter2"
    assert "hunter2" not in repr(changed)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "BROKER_URL is not set"),
        ({"BROKER_URL": ""}, "BROKER_URL is not set"),
        ({"DATABASE_URL": "mysql://host"}, "wrong setting: DATABASE_URL: "),
    ],
    ids=["no broker", "empty", "wrong database"],
)
def test_relay_stops_with_one_line(
    settings: dict[str, str], expected: str, tmp_path: Path, reaper: Reaper
) -> None:
    relay = (sys.executable, "-m", "app.delivery.relay")
    done = run(*relay, folder=tmp_path, reaper=reaper, **settings)

    assert done.returncode != 0
    [line] = done.stderr.splitlines()
    assert line.startswith(expected)
