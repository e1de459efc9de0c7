"""A wrong setting stops the start with one line that names it."""

from pathlib import Path

import pytest

from app.settings import read_settings
from tests.delivery.support.processes import run
from tests.delivery.support.reaper import Reaper


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "0"),
        ("PORT", "65536"),
        ("MAX_BODY_BYTES", "0"),
        ("MAX_BODY_BYTES", "9999999999999"),
    ],
)
def test_wrong_setting_is_named(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=rf"\Awrong setting: {name}: .+\Z"):
        read_settings()


def test_server_stops_with_one_line(tmp_path: Path, reaper: Reaper) -> None:
    settings = {"PORT": "http", "MAX_BODY_BYTES": "big"}
    done = run("uvicorn", "app.main:app", folder=tmp_path, reaper=reaper, **settings)

    assert done.returncode != 0
    [line] = done.stderr.splitlines()
    assert line.startswith("wrong setting: ")
    assert "PORT" in line
    assert "MAX_BODY_BYTES" in line


def test_dotenv_file_is_read_and_empty_variables_are_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("PORT=9000\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PORT", "")
    assert read_settings().port == 9000
