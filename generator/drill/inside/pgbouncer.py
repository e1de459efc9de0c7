"""Put PgBouncer before PostgreSQL, as hosting providers do."""

import os
from pathlib import Path
from urllib.parse import urlsplit

from tests.delivery.support.processes import free_port
from tests.delivery.support.reaper import Reaper
from tests.delivery.support.servers import OwnServer, accepts_connections, program

# PostgreSQL's own limit is 100.
CONNECTIONS = 90


def start(url: str, mode: str, folder: Path, reaper: Reaper) -> OwnServer:
    """Start it in this pool mode for the database of a URL; its `url` is for it."""
    binary = program("pgbouncer", "/usr/sbin")
    assert binary is not None, "the command has looked for it"
    database = urlsplit(url)
    port = free_port()
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        f"""[databases]
* = host=127.0.0.1 port={database.port} user={database.username}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = {CONNECTIONS}
max_client_conn = 1000
"""
    )

    folder.chmod(0o755)
    # Like PostgreSQL, it refuses to run as root.
    user = ["--user", "nobody"] if os.geteuid() == 0 else []
    options = "?pgbouncer=true" if mode == "transaction" else ""
    return OwnServer(
        f"postgresql://{database.username}@127.0.0.1:{port}{database.path}{options}",
        [str(binary), *user, str(settings)],
        answers=lambda: accepts_connections(port),
        log=folder / "pgbouncer.log",
        reaper=reaper,
    )
