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
# these here (the last three are not libpq's),
_HERE = {
    **dict.fromkeys(("dbname", "host", "password", "user"), ".*"),
    "channel_binding": "disable|prefer|require",
    "connect_timeout": r"-?\d{1,2}",
    "keepalives": "[01]",
    "keepalives_count": r"\d{1,3}",
    "keepalives_idle": r"\d{1,4}",
    "keepalives_interval": r"\d{1,4}",
    "port": r"\d{1,5}(,\d{1,5})*",
    "tcp_user_timeout": r"\d{1,7}",
    "pgbouncer": "true|false",
    "prepared_statement_cache_size": "0",
    "statement_cache_size": r"\d{1,5}",
}
# and these ask for what the driver does anyway, or for nothing that matters.
_GRANTED = {
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
_PARAMETERS = {**_BY_DRIVER, **_HERE, **_GRANTED}

_URL = re.compile(
    r"postgres(?:ql)?(?:\+asyncpg)?://"
    r"(?:(?P<user>[^:@/]*)(?::(?P<password>[^@]*))?@)?"
    r"(?P<hosts>[^/?]*)(?:/(?P<dbname>[^?]*))?(?:\?(?P<query>.*))?"
)
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
    listed = ",".join(value for name, value in parameters if name == "host")
    hosts = [_read_host(each) for each in (listed or parts["hosts"]).split(",")]
    names = [name for name in ("user", "password", "dbname") if parts[name]]
    given = {name: unquote(parts[name]) for name in names} | dict(parameters)

    if "port" in given:
        ports = [int(port) for port in given["port"].split(",")]
        ports *= len(hosts) if len(ports) == 1 else 1
        if len(ports) != len(hosts):
            raise ValueError("there must be one port, or one for each host")
        hosts = [(name, port) for (name, _), port in zip(hosts, ports, strict=True)]
    if not all(0 < port < 65_536 for _, port in hosts if port is not None):
        raise ValueError("there is no such port")

    return _address(given, hosts)


def _read_query(text: str) -> Iterator[tuple[str, str]]:
    for item in filter(None, text.split("&")):
        name, _, value = map(unquote, item.partition("="))
        if name == "ssl":  # As JDBC and asyncpg spell it.
            name, value = "sslmode", "require" if value == "true" else value

        if not re.fullmatch(r"\w+", name):
            raise ValueError("is not a URL")
        if name not in _PARAMETERS:
            raise ValueError(f"the parameter {name} cannot be followed")
        if value and not re.fullmatch(_PARAMETERS[name], value):
            raise ValueError(f"this value of {name} cannot be followed")
        if value:
            yield name, value


def _read_host(text: str) -> Host:
    found = _HOST.fullmatch(text)
    if found is None:
        raise ValueError("is not a URL")
    port = int(found["port"]) if found["port"] else None
    return unquote(found["name"]).strip("[]") or None, port


def _address(given: dict[str, str], hosts: list[Host]) -> Address:
    if given.get("channel_binding") == "require":
        # The driver has none. A verified certificate keeps others out as well.
        given = {"sslrootcert": "system", **given, "sslmode": "verify-full"}
    trusts_system = given.get("sslrootcert") == "system"
    for name in ("sslcert", "sslcrl", "sslkey", "sslrootcert"):
        path = given.get(name, "system")
        if path != "system" and not Path(path).is_file():
            raise ValueError(f"there is no file that {name} names")

    sizes = ("statement_cache_size", "prepared_statement_cache_size")
    is_pooled = given.get("pgbouncer") == "true" or "0" in map(given.get, sizes)
    passed = {name: given[name] for name in _BY_DRIVER if name in given}
    seconds = int(given.get("connect_timeout", 0))

    return Address(
        hosts=hosts,
        database=given.get("dbname"),
        arguments={
            "dsn": f"postgresql://?{urlencode(passed, quote_via=quote)}",
            "user": given.get("user"),
            "password": given.get("password"),
            "ssl": True if trusts_system else None,
            "target_session_attrs": given.get("target_session_attrs", "read-write"),
            "timeout": seconds if seconds > 0 else CONNECT_SECONDS,
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
