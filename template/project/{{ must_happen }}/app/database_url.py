"""Understand URLs of PostgreSQL as those who run it hand them out.

They are written for libpq, PostgreSQL's own client (postgresql.org/docs/current/
libpq-connect.html#LIBPQ-PARAMKEYWORDS). The driver knows some of its parameters, and
would take all others for settings of the server, which refuses them.
"""

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode

# The wait for a connection, a free place in the pool or a lock of SQLite.
CONNECT_SECONDS = 5

# The values of each parameter that can be followed: these by the driver,
_BY_DRIVER = {
    **dict.fromkeys(("application_name", "options", "passfile", "service"), ".*"),
    **dict.fromkeys(("sslcert", "sslcrl", "sslkey", "sslpassword"), ".*"),
    **dict.fromkeys(("gsslib", "krbsrvname", "sslrootcert"), ".*"),
    "ssl_max_protocol_version": r"TLSv1(\.[123])?",
    "ssl_min_protocol_version": r"TLSv1(\.[123])?",
    "sslmode": "disable|allow|prefer|require|verify-ca|verify-full",
    "sslnegotiation": "postgres|direct",
    # A server that cannot be written is of no use here.
    "target_session_attrs": "any|primary|read-write",
}
# and these here.
_PARAMETERS = {
    **_BY_DRIVER,
    **dict.fromkeys(("dbname", "host", "password", "user"), ".*"),
    "channel_binding": "disable|prefer|require",
    "connect_timeout": r"[1-9]\d?",
    "keepalives": "[01]",
    "keepalives_count": r"\d{1,3}",
    "keepalives_idle": r"\d{1,4}",
    "keepalives_interval": r"\d{1,4}",
    "port": r"\d{1,5}(,\d{1,5})*",
    "tcp_user_timeout": r"\d{1,7}",
    # Not libpq's.
    "pgbouncer": "true|false",
    "prepared_statement_cache_size": "0",
    "statement_cache_size": r"\d{1,5}",
    # They ask for what the driver does anyway, or for nothing that matters.
    "client_encoding": "(?i:auto|utf-?8)",
    "fallback_application_name": ".*",
    "gssdelegation": "0",
    "gssencmode": "disable|prefer",
    "load_balance_hosts": "disable",
    "max_protocol_version": ".*",
    "min_protocol_version": r"3\.0",
    "sslcertmode": "allow",
    "sslcompression": "[01]",
    "sslsni": "1",
}

_URL = re.compile(
    r"postgres(?:ql)?(?:\+asyncpg)?://"
    r"(?:(?P<user>[^:@/]*)(?::(?P<password>[^@]*))?@)?"
    r"(?P<hosts>[^/?]*)(?:/(?P<dbname>[^?]*))?(?:\?(?P<query>.*))?"
)
_IN_FRONT = ("user", "password", "dbname")
_HOST = re.compile(r"(?P<name>\[[^\]]*\]|/.*|[^:]*)(?::(?P<port>\d{1,5}))?")

# A connection that falls silent is given up within half a minute, not after the two
# hours of Linux (man7.org/linux/man-pages/man7/tcp.7.html).
_SOCKET_OPTIONS = {
    "keepalives": (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    "keepalives_idle": (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 10),
    "keepalives_interval": (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 5),
    "keepalives_count": (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
    "tcp_user_timeout": (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 20_000),
}

Host = tuple[str | None, int | None]


@dataclass(frozen=True)
class Address:
    """Where PostgreSQL is, and how to connect to it."""

    hosts: list[Host]
    """They are tried in turn. Without a name: where the driver looks for a server."""

    database: str | None
    arguments: dict[str, Any] = field(repr=False)
    """What else the driver is told."""

    socket_options: list[tuple[int, int, int]]
    """What is set on the socket of each connection over TCP."""

    is_pooled: bool
    """Whether each transaction may run in another session of the server.

    Then nothing lasts that belongs to a session: no prepared statement, no LISTEN.
    """


def read_postgresql_url(url: str) -> Address:
    """Return what a URL says.

    Raises:
        ValueError: it is no such URL, or it asks for what cannot be done. The message
            names the parameter and shows no value.
    """
    parts = _URL.fullmatch(url)
    if parts is None:
        raise ValueError("is not a URL")

    parameters = list(_read_query(parts["query"] or ""))
    named = [(name, unquote(parts[name] or "")) for name in _IN_FRONT]
    given = {name: value for name, value in named + parameters if value}
    listed = ",".join(value for name, value in parameters if name == "host")
    hosts = list(_read_hosts(listed or parts["hosts"], given.get("port", "")))

    if given.get("channel_binding") == "require":
        # The driver has none. A verified certificate keeps others out as well.
        given = {"sslrootcert": "system", **given, "sslmode": "verify-full"}
    for name in ("sslcert", "sslcrl", "sslkey", "sslrootcert"):
        path = given.get(name, "system")
        if path != "system" and not Path(path).is_file():
            raise ValueError(f"there is no file that {name} names")

    return _address(given, hosts)


def _read_query(text: str) -> Iterator[tuple[str, str]]:
    for item in filter(None, text.split("&")):
        name, _, value = map(unquote, item.partition("="))
        if name == "ssl":  # As JDBC and asyncpg spell it.
            name, value = "sslmode", "require" if value == "true" else value
        if not re.fullmatch(f"({_PARAMETERS.get(name, '(?!)')})?", value):
            raise ValueError(f"the parameter {name!a} cannot be followed as it stands")
        yield name, value


def _read_hosts(text: str, ports: str) -> Iterator[Host]:
    names = text.split(",")
    numbers = ports.split(",") if "," in ports else [ports] * len(names)
    if len(numbers) != len(names):
        raise ValueError("there must be one port, or one for each host")

    for each, number in zip(names, numbers, strict=True):
        found = _HOST.fullmatch(each)
        port = int(number or (found and found["port"]) or 0)
        if found is None or port > 65_535:
            raise ValueError("is not a URL, or has no such port")
        yield unquote(found["name"]).strip("[]") or None, port or None


def _address(given: dict[str, str], hosts: list[Host]) -> Address:
    sizes = ("statement_cache_size", "prepared_statement_cache_size")
    is_pooled = given.get("pgbouncer") == "true" or "0" in map(given.get, sizes)
    passed = {name: given[name] for name in _BY_DRIVER if name in given}

    return Address(
        hosts=hosts,
        database=given.get("dbname"),
        arguments={
            "dsn": f"postgresql://?{urlencode(passed, quote_via=quote)}",
            "user": given.get("user"),
            "password": given.get("password"),
            "ssl": given.get("sslrootcert") == "system" or None,
            "target_session_attrs": given.get("target_session_attrs", "read-write"),
            "timeout": int(given.get("connect_timeout", CONNECT_SECONDS)),
            "statement_cache_size": (
                0 if is_pooled else int(given.get("statement_cache_size", 100))
            ),
        },
        socket_options=[
            (level, getattr(socket, option), int(given.get(name, value)))
            for name, (level, option, value) in _SOCKET_OPTIONS.items()
            if hasattr(socket, option)  # Not every system has each.
        ],
        is_pooled=is_pooled,
    )
