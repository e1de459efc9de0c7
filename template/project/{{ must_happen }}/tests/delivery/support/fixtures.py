"""Start one set of real servers and processes when a test needs it; mend it after each.

A test that asks for any of them is marked `servers`, wherever it stands.
"""

import contextlib
import secrets
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.delivery.support.database import Database, sibling
from tests.delivery.support.parts import SERVERS
from tests.delivery.support.probe_tasks import create_statements
from tests.delivery.support.project import Project
from tests.delivery.support.reaper import Reaper
from tests.delivery.support.servers import Server
from tests.delivery.support.service import Service

FAILED = pytest.StashKey[bool]()


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what needs a server."""
    if "servers" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.servers)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the processes logged when a test fails."""
    report = yield
    if report.failed:
        item.stash[FAILED] = True
        service = getattr(item, "funcargs", {}).get("service")
        if isinstance(service, Service):
            report.sections += service.log_tails()
    return report


@pytest.fixture(scope="session")
def scratch() -> Path:
    """A folder for all data and logs of this run; the reaper removes it."""
    folder = Path(tempfile.mkdtemp(prefix="servers-"))
    folder.chmod(0o711)  # the user who runs PostgreSQL passes through
    return folder


@pytest.fixture(scope="session")
def reaper(scratch: Path) -> Iterator[Reaper]:
    """Kills at the end of this run what the run has started."""
    reaper = Reaper(scratch)
    yield reaper
    reaper.close()


@pytest.fixture(scope="session")
def servers(scratch: Path, reaper: Reaper) -> Iterator[dict[str, Server]]:
    """The servers by what they are, such as `postgresql`."""
    with contextlib.ExitStack() as stack:
        started = {}
        for name, start in SERVERS.items():
            started[name] = start(scratch, reaper)
            stack.callback(started[name].stop)
        yield started


@pytest.fixture(scope="session")
def project(scratch: Path) -> Project:
    """A copy of this project with the probes in it."""
    return Project(scratch / "project")


@pytest.fixture(scope="session")
def database(
    servers: dict[str, Server], project: Project, reaper: Reaper
) -> Iterator[Database]:
    """A database of this run's own, migrated as in production."""
    name = f"tests_{secrets.token_hex(6)}"
    url = servers["postgresql"].url
    server = Database(url)
    server.run(f"CREATE DATABASE {name}")
    database = Database(sibling(url, name))
    project.migrate(database.url, reaper)
    database.run(*create_statements(database.url))

    yield database

    database.close()
    server.run(f"DROP DATABASE {name} WITH (FORCE)")
    server.close()


@pytest.fixture(scope="session")
def running_service(
    project: Project, database: Database, servers: dict[str, Server], reaper: Reaper
) -> Iterator[Service]:
    """The service, started from the Procfile."""
    service = Service(project, database, servers, reaper)

    try:
        service.wait_until_ready()
        yield service
    except AssertionError as error:
        raise RuntimeError("\n".join(map("\n".join, service.log_tails()))) from error
    finally:
        service.stop()


@pytest.fixture
def service(
    running_service: Service, request: pytest.FixtureRequest
) -> Iterator[Service]:
    """The running service; whatever the test does to it is mended afterwards."""
    running_service.begin_test()
    yield running_service
    if request.node.stash.get(FAILED, False):
        running_service.restart()
    else:
        running_service.mend()
