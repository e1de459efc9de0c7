"""URLs of PostgreSQL work as those who run it hand them out, or stop the start."""

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import exc

from app.database import create_database_engine
from app.database_url import read_postgresql_url
from app.delivery import notifications
from app.settings import read_settings
from tests.delivery.support.processes import free_port

SSL_REQUEST = 80_877_103  # postgresql.org/docs/current/protocol-message-formats.html


async def first_message(url: str) -> dict[str, str]:
    """Return what a server without TLS, at `PORT` of this URL, is told at first."""
    told: dict[str, str] = {}

    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        length, code = await _numbers(reader)
        if code == SSL_REQUEST:
            writer.write(b"N")
            length, _ = await _numbers(reader)
        names = (await reader.readexactly(length - 8)).decode().split("\0")
        told.update(zip(names[::2], names[1::2], strict=False))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    engine = create_database_engine(url.replace("PORT", str(port)))
    async with server:
        with pytest.raises(exc.DBAPIError):
            await engine.connect()

    return {name: value for name, value in told.items() if value}


async def _numbers(reader: asyncio.StreamReader) -> tuple[int, int]:
    head = await reader.readexactly(8)
    return int.from_bytes(head[:4]), int.from_bytes(head[4:])


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgres://me@127.0.0.1:PORT/shop", {}),
        ("postgresql+asyncpg://me@127.0.0.1:PORT/shop?sslmode=prefer", {}),
        ("postgresql://me:a%2Fb@127.0.0.1:PORT/shop?ssl=disable", {}),
        ("postgresql://127.0.0.1/shop?port=PORT&user=me&password=a+b", {}),
        ("postgresql:///shop?host=127.0.0.1:PORT&user=me", {}),
        ("postgresql://me@/?host=127.0.0.1&port=PORT&dbname=shop", {}),
        ("postgresql://me@127.0.0.1:PORT/shop?pgbouncer=true", {}),
        ("postgresql://me@127.0.0.1:PORT/shop?statement_cache_size=0", {}),
        (
            "postgresql://me@127.0.0.1:PORT/shop?channel_binding=prefer"
            "&connect_timeout=10&gssencmode=disable&keepalives_idle=30"
            "&tcp_user_timeout=9000&target_session_attrs=read-write&sslmode=",
            {},
        ),
        (
            "postgresql://me@127.0.0.1:PORT/shop?application_name=my%20app"
            "&options=-c%20search_path%3Da",
            {"application_name": "my app", "options": "-c search_path=a"},
        ),
    ],
)
async def test_servers_are_told_what_they_understand(
    url: str, expected: dict[str, str]
) -> None:
    always = {"client_encoding": "'utf-8'", "user": "me", "database": "shop"}
    assert await first_message(url) == {**always, **expected}


async def test_each_host_is_tried() -> None:
    nobody = free_port()
    several = f"postgresql://me@127.0.0.1:{nobody},127.0.0.1:PORT/shop"
    assert (await first_message(several))["database"] == "shop"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://me@%2Fcloudsql%2Fa%3Ab:5433/shop", [("/cloudsql/a:b", 5433)]),
        ("postgresql:///shop?host=/cloudsql/a:b", [("/cloudsql/a:b", None)]),
        (
            "postgresql://[::1]:5433,b/shop",
            [("::1", 5433), ("b", None)],
        ),
        ("postgresql://a,b/shop?port=1,2", [("a", 1), ("b", 2)]),
        ("postgresql://a,b/shop?port=1", [("a", 1), ("b", 1)]),
        ("postgresql:///shop?host=a:1&host=b:2", [("a", 1), ("b", 2)]),
        ("postgresql:///shop", [(None, None)]),
    ],
)
def test_hosts_are_understood(
    url: str, expected: list[tuple[str | None, int | None]]
) -> None:
    assert read_postgresql_url(url).hosts == expected


@pytest.mark.parametrize(
    ("query", "passed", "verifies"),
    [
        ("sslmode=require", "sslmode=require", False),
        ("ssl=true", "sslmode=require", False),
        (f"sslmode=verify-full&sslrootcert={__file__}", "sslrootcert=", False),
        ("sslmode=verify-full&sslrootcert=system", "", True),
        ("sslmode=require&channel_binding=require", "", True),
        (f"channel_binding=require&sslrootcert={__file__}", "verify-full", False),
    ],
)
def test_connections_are_encrypted_as_asked(
    query: str, passed: str, verifies: bool
) -> None:
    """`verifies`: with the authorities that the system trusts."""
    arguments = read_postgresql_url(f"postgresql://host/shop?{query}").arguments
    assert passed in arguments["dsn"]
    assert arguments["ssl"] is (True if verifies else None)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("gssencmode=require", "gssencmode"),
        ("require_auth=hunter2", "require_auth"),
        ("connection_limit=1", "connection_limit"),
        ("sslmode=hunter2", "sslmode"),
        ("sslrootcert=/hunter2.pem", "sslrootcert"),
        ("target_session_attrs=standby", "target_session_attrs"),
        ("connect_timeout=hunter2", "connect_timeout"),
        ("connect_timeout=0", "connect_timeout"),
        ("tcp_user_timeout=1e9", "tcp_user_timeout"),
        ("port=65536", "port"),
        ("port=1,2", "port"),
        ("hunter%0A2=1", "hunter.n2"),
    ],
)
def test_what_cannot_be_done_stops_the_start(
    query: str, named: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", f"postgresql://me:hunter2@host/name?{query}")
    expected = rf"\Awrong setting: DATABASE_URL: .*{named}.*\Z"
    with pytest.raises(SystemExit, match=expected) as stopped:
        read_settings()
    assert "hunter2" not in str(stopped.value)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", False),
        ("pgbouncer=false&statement_cache_size=50", False),
        ("pgbouncer=true", True),
        ("statement_cache_size=0", True),
        ("prepared_statement_cache_size=0", True),
    ],
)
def test_nothing_is_prepared_for_a_session_of_somebody_else(
    query: str, expected: bool
) -> None:
    address = read_postgresql_url(f"postgresql://host/shop?{query}")
    assert address.is_pooled is expected
    assert (address.arguments["statement_cache_size"] == 0) is expected


async def test_nobody_listens_in_a_session_of_somebody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(notifications, "CAN_LISTEN", False)
    monkeypatch.setattr(notifications, "IS_SQLITE", False)
    await notifications.Listener(asyncio.Event()).listen()


def test_password_is_not_shown() -> None:
    address = read_postgresql_url("postgresql://me:hunter2@host/shop")
    assert "hunter2" not in repr(address)
