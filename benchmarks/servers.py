"""Start servers with the settings of production, which keep their data."""

import glob
import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path

from benchmarks.processes import Process, answers, run
from generator.services import eventually, free_port
from hooks.refusal import Refusal

_POSTGRESQL = "/usr/lib/postgresql/[0-9]*/bin"
# A StartupMessage of protocol 3.0, which a server that is still starting refuses.
_STARTUP = bytes([0, 0, 0, 41, 0, 3, 0, 0]) + (
    b"user\x00postgres\x00database\x00postgres\x00\x00"
)


class Server:
    """A server of our own on a free port; its data go with the benchmark's folder."""

    def __init__(
        self, url: str, port: int, process: Process, stop_signal: signal.Signals
    ) -> None:
        self.url = url
        self.port = port
        self._process = process
        self._stop_signal = stop_signal

    def stop(self) -> None:
        """Stop it."""
        self._process.stop(number=self._stop_signal)

    def processor_seconds(self) -> float:
        """Return how long it kept a processor busy."""
        return self._process.processor_seconds()


class PostgreSQL(Server):
    """PostgreSQL with its default settings: every commit is on disk."""

    def __init__(self, folder: Path) -> None:
        postgres = _program("postgres", _POSTGRESQL)
        self._programs = postgres.parent
        user = _other_user() if os.geteuid() == 0 else None
        data = folder / "postgresql"
        data.mkdir()
        if user is not None:
            shutil.chown(data, user)

        initialise = [str(self._programs / "initdb"), "-D", str(data), "-U", "postgres"]
        initialise += ["--auth=trust", "--encoding=UTF8", "--no-locale"]
        subprocess.run(
            initialise, check=True, stdout=subprocess.DEVNULL, user=user, cwd=data
        )

        port = free_port()
        command = [str(postgres), "-D", str(data), "-p", str(port)]
        command += ["-c", "listen_addresses=127.0.0.1"]
        command += ["-c", "unix_socket_directories="]
        process = Process(command, folder, folder / "postgresql.log", user=user)
        url = f"postgresql://postgres@127.0.0.1:{port}"
        super().__init__(url, port, process, signal.SIGINT)
        _wait(process, port, _STARTUP, b"R")

    @property
    def version(self) -> dict[str, str]:
        """Which PostgreSQL it is."""
        [[version]] = self.query(f"{self.url}/postgres", "SHOW server_version")
        return {"PostgreSQL": version}

    def create_database(self, name: str, original: str = "template1") -> str:
        """Create a database, as a copy of another one, and return its URL."""
        self.query(
            f"{self.url}/postgres", f"CREATE DATABASE {name} TEMPLATE {original}"
        )
        return f"{self.url}/{name}"

    def query(self, url: str, *statements: str) -> list[list[str]]:
        """Run statements, each on its own, and return the rows of them all."""
        psql = shutil.which("psql") or str(self._programs / "psql")
        command = [psql, "-qAtX", "-F", "\t", "-v", "ON_ERROR_STOP=1", url]
        for statement in statements:
            command += ["-c", statement]

        return [line.split("\t") for line in run(command, Path("/")).splitlines()]

    def number(self, url: str, statement: str) -> int:
        """Run a query for one whole number."""
        return int(self.query(url, statement)[0][0])


def start_redis(folder: Path) -> Server:
    """Redis that keeps what it is given: an append-only file, and nothing evicted."""
    data = folder / "redis"
    data.mkdir()
    port = free_port()

    command = [str(_program("redis-server")), "--port", str(port)]
    command += ["--bind", "127.0.0.1"]
    command += ["--dir", str(data), "--appendonly", "yes", "--save", ""]
    command += ["--maxmemory-policy", "noeviction"]

    process = Process(command, folder, folder / "redis.log")
    _wait(process, port, b"PING\r\n", b"+PONG")
    return Server(f"redis://127.0.0.1:{port}/0", port, process, signal.SIGTERM)


def start_rabbitmq(folder: Path) -> Server:
    """RabbitMQ in a folder of its own."""
    data = folder / "rabbitmq"
    data.mkdir()
    port, name_port = free_port(), free_port()

    # Idle, it leaves the processors to what is measured.
    idle = "+sbwt none +sbwtdcpu none +sbwtdio none"
    environment = {
        "HOME": str(data),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(name_port),
        "RABBITMQ_CONF_ENV_FILE": str(data / "none"),
        "RABBITMQ_CONFIG_FILE": str(data / "none"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(data / "none"),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_MNESIA_BASE": str(data),
        "RABBITMQ_NODENAME": f"bench{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": idle,
    }

    names = Process(
        [str(_program("epmd", "/usr/lib/erlang/erts-*/bin")), "-port", str(name_port)],
        folder,
        folder / "epmd.log",
        environment={"ERL_EPMD_ADDRESS": "127.0.0.1"},
    )
    process = _RabbitMQ(
        [str(_program("rabbitmq-server", "/usr/lib/rabbitmq/bin"))],
        folder,
        folder / "rabbitmq.log",
        environment=environment,
    )
    process.names = names

    _wait(process, port, b"AMQP\x00\x00\x09\x01", b"")
    return Server(
        f"amqp://guest:guest@127.0.0.1:{port}/", port, process, signal.SIGTERM
    )


class _RabbitMQ(Process):
    names: Process  # Erlang's name service, which ends with it.

    def stop(self, within: float = 30, number: signal.Signals = signal.SIGTERM) -> None:
        super().stop(within, number)
        self.names.stop()


def _wait(process: Process, port: int, question: bytes, answer: bytes) -> None:
    def look() -> bool:
        process.check()
        return answers(port, question, answer)

    try:
        eventually(look, f"a server answers; its log is {process.log}", within=90)
    except BaseException:
        process.stop()
        raise


def _program(name: str, folder: str = "") -> Path:
    # Of any root, which pathlib cannot search.
    found = glob.glob(f"{folder}/{name}") if folder else []  # noqa: PTH207
    path = max(found, default=shutil.which(name))
    if path is None:
        raise Refusal(
            f"the benchmarks need {name}: install it, as ./test does on Debian"
        )
    return Path(path)


def _other_user() -> str:
    names = {user.pw_name for user in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
