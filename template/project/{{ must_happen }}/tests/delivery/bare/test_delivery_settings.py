"""A wrong setting of where data and tasks go stops the start, too, with one line."""

from pathlib import Path

import pytest

from app.settings import read_settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LEASE_SECONDS", "soon"),
        ("LEASE_SECONDS", "0.5"),
        ("LEASE_SECONDS", "nan"),
        ("LEASE_SECONDS", "inf"),
        ("RETENTION_DAYS", "0"),
        ("RETENTION_DAYS", "nan"),
        ("RETENTION_DAYS", "inf"),
        ("RETENTION_DAYS", "99999999"),
        ("OPERATOR_TOKEN", "x"),
        ("OPERATOR_TOKEN", "hunter2 hunter2 hunter2"),
        ("OPERATOR_TOKEN", "hunter2-hünter2-hunter2"),
        ("DATABASE_URL", "mysql://user:hunter2@host/name"),
        ("DATABASE_URL", "postgresql://user:hunter2@host:port/name"),
        ("DATABASE_URL", "app.db"),
    ],
)
def test_wrong_setting_is_named_but_not_shown(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=rf"\Awrong setting: {name}: .+\Z") as stopped:
        read_settings()
    assert "hunter2" not in str(stopped.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
def test_every_spelling_of_postgresql_is_accepted(
    scheme: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", f"{scheme}://user@host/name")
    assert read_settings().database_url == "postgresql+asyncpg://user@host/name"


def test_passwords_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:hunter2@host/name")
    monkeypatch.setenv("OPERATOR_TOKEN", "hunter2-hunter2-hunter2")
    shown = f"{read_settings()!r} {read_settings()}"
    assert "operator_token" in shown
    assert "hunter2" not in shown


def test_empty_settings_are_as_if_unset(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("OPERATOR_TOKEN", "LEASE_SECONDS"):
        monkeypatch.setenv(name, "")
    settings = read_settings()
    assert settings.operator_token is None
    assert settings.lease_seconds == 30
