"""Start the servers, go through the faults, and print a JSON line for what happens."""

import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from tests.delivery.support.reaper import Reaper
from tests.delivery.support.servers import OwnServer, start_postgresql

from . import control, messages
from .actions import ACTIONS, OVERRIDES
from .books import PostgresqlServer
from .faults import FAULTS
from .order import Order
from .reference import ReferenceRun
from .run import NotRunAgainError, Run, Servers
from .verdict import count, judge

PACKAGES = (
    "fastapi",
    "sqlalchemy",
    "asyncpg",
    "uvicorn",
    "celery",
    "kombu",
    "arq",
    "dramatiq",
)


def tell(event: str, **details: object) -> None:
    """Tell the command."""
    sys.stdout.write(json.dumps({"event": event, **details}, default=str) + "\n")
    sys.stdout.flush()


def drill(order: Order, folder: Path) -> None:
    """Go through all faults."""
    scratch = Path(tempfile.mkdtemp(prefix="drill-"))
    scratch.chmod(0o711)  # The user who runs PostgreSQL passes through.
    reaper = Reaper(scratch)

    try:
        servers = _start_servers(order, folder, scratch, reaper)
        tell("versions", **_versions(servers))
        for fault in order.faults:
            tell("result", fault=fault, **_run(order, servers, fault))
    finally:
        reaper.close()


def _start_servers(
    order: Order, folder: Path, scratch: Path, reaper: Reaper
) -> Servers:
    if order.database == "sqlite":
        return Servers(folder, scratch, reaper, None, None, None)

    tell("progress", fault="", text="starting servers")
    postgresql = start_postgresql(scratch, reaper)
    broker = messages.start(scratch, reaper) if order.broker else None
    assert isinstance(postgresql, OwnServer)

    databases = PostgresqlServer(postgresql.url)
    subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "heads"],
        cwd=folder,
        env={**os.environ, "DATABASE_URL": databases.url},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    databases.complete()
    return Servers(folder, scratch, reaper, postgresql, databases, broker)


def _run(order: Order, servers: Servers, name: str) -> dict[str, Any]:
    """Do one fault to a service of its own, and return what came of it."""
    begun = time.monotonic()
    _restore(servers)
    run = _start(order, servers, name)

    result: dict[str, Any] = {}
    try:
        result = _take_through(run, name)
    except Exception as error:
        run.broken.append(f"the drill itself failed: {type(error).__name__}: {error}")
        result = {"broken": run.broken, "notes": traceback.format_exc().splitlines()}
    finally:
        if run.broken:
            result["logs"] = run.service.log_tails()
        run.close()

    return {**result, "seconds": round(time.monotonic() - begun, 1)}


def _restore(servers: Servers) -> None:
    """Start the servers that the last fault may have stopped, and empty the broker."""
    if servers.broker is not None:
        servers.broker.start()
        messages.empty(servers.broker.url)
    if servers.postgresql is not None:
        servers.postgresql.start()


def _start(order: Order, servers: Servers, name: str) -> Run:
    said = ""

    def say(text: str) -> None:
        nonlocal said
        if text != said:
            said = text
            tell("progress", fault=name, text=text)

    kind = Run if order.reference is None else ReferenceRun
    return kind(
        order,
        servers,
        say,
        fault=FAULTS[name],
        overrides=OVERRIDES.get(name),
    )


def _take_through(run: Run, name: str) -> dict[str, Any]:
    """Warm the service up, do the fault, wait until all has settled, and count."""
    if run.warm_up():
        with contextlib.suppress(NotRunAgainError):
            ACTIONS[name](run)
        run.settle()

    if isinstance(run, ReferenceRun):
        return count(run, run.left_in_broker())
    return judge(run, FAULTS[name])


def _versions(servers: Servers) -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue

    if servers.databases is not None:
        versions["PostgreSQL"] = servers.databases.version
    if servers.broker is not None:
        versions |= control.version(servers.broker)
    return versions


def _last_line(output: str | bytes) -> str:
    text = output if isinstance(output, str) else output.decode(errors="replace")
    return (text.strip().splitlines() or ["no output"])[-1]


def main() -> None:
    """Read the order from the command line; a missing server is a refusal."""
    order = Order(**json.loads(sys.argv[1]))
    os.environ["CI"] = "true"  # What is missing is an error, not a skipped test.
    # We kill servers: only our own.
    for name in ("TEST_DATABASE_URL", "TEST_BROKER_URL"):
        os.environ.pop(name, None)

    try:
        drill(order, Path.cwd())
    except pytest.fail.Exception as error:
        tell("refused", reason=str(error))
    except subprocess.CalledProcessError as error:
        tell("refused", reason=_last_line(error.stderr))


if __name__ == "__main__":
    main()
