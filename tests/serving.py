"""Run generated projects as in production: the Procfile's processes, real servers."""

import contextlib
import json
import os
import runpy
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from generator.services import eventually, free_port, read_procfile
from hooks.commands import run, uv

# Starts what it is told to in the way of the project's own tests, and stops it when
# told to.
_SERVERS = """
import json, secrets, sys, tempfile
from pathlib import Path
from tests.delivery.support.database import Database, sibling
from tests.delivery.support.reaper import Reaper
from tests.delivery.support.servers import start_postgresql

scratch = Path(tempfile.mkdtemp(prefix="servers-"))
scratch.chmod(0o711)  # the user who runs PostgreSQL passes through
reaper = Reaper(scratch)
urls = {}
servers = []
if "postgresql" in sys.argv[1:]:
    servers.append(start_postgresql(scratch, reaper))
    name = f"tests_{secrets.token_hex(6)}"
    database = Database(servers[-1].url)
    database.run(f"CREATE DATABASE {name}")
    urls["DATABASE_URL"] = sibling(servers[-1].url, name)
if "broker" in sys.argv[1:]:
    from tests.delivery.support.broker import empty, start_broker
    servers.append(start_broker(scratch, reaper))
    urls["BROKER_URL"] = servers[-1].url
    empty(servers[-1].url)
print(json.dumps(urls), flush=True)
sys.stdin.read()
if "DATABASE_URL" in urls:
    database.run(f"DROP DATABASE {name} WITH (FORCE)")
    database.close()
for server in servers:
    server.stop()
reaper.close()
"""


def install(project: Path) -> None:
    """Lock and install a project's dependencies into an environment of its own."""
    outcome = run(uv("sync", "--python", sys.executable), project)
    assert outcome.ok, outcome.output


def check(project: Path, *command: str, **settings: str) -> str:
    """Run a program of a project, which must succeed, and return its output."""
    environment = {"CI": "true", **settings}
    outcome = run(
        [str(project / ".venv/bin" / command[0]), *command[1:]],
        project,
        environment={**environment, "PATH": _path(project)},
        time_limit=1200,
    )
    assert outcome.ok, f"{' '.join(command)}:\n{outcome.output[-20_000:]}"
    return outcome.output


@contextlib.contextmanager
def servers(project: Path, *names: str) -> Iterator[dict[str, str]]:
    """Run the servers that a project's own tests use; yield the settings for them."""
    with subprocess.Popen(
        [project / ".venv/bin/python", "-c", _SERVERS, *names],
        cwd=project,
        env={**os.environ, "PATH": _path(project)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            message = f"the servers of {project.name} cannot be started"
            (pytest.fail if "CI" in os.environ else pytest.skip)(message)

        try:
            yield json.loads(line)
        finally:
            process.communicate(timeout=300)


class Process:
    """A process of a project, started as its Procfile says."""

    def __init__(
        self, project: Path, kind: str, settings: dict[str, str], reaper: Any
    ) -> None:
        self.log = project.with_name(f"{project.name}-{kind}.log")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", read_procfile(project)[kind]],
                cwd=project,
                env={
                    **os.environ,
                    **settings,
                    "PATH": _path(project),
                    "PYTHONUNBUFFERED": "1",
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

        reaper.watch(self._process.pid)

    @property
    def runs(self) -> bool:
        """Whether it has not exited."""
        return self._process.poll() is None

    def stop(self, within: float) -> bool:
        """SIGTERM the process, kill what is left in time; return whether none was."""
        if self.runs:
            self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(within)
        ended = not self.runs
        self.kill()
        return ended

    def kill(self) -> None:
        """SIGKILL it with all its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class Deployment:
    """A release of a project that serves: what runs of it, and where it answers."""

    def __init__(self, project: Path, settings: dict[str, str]) -> None:
        port = free_port()
        self._project = project
        self._settings = {**settings, "PORT": str(port)}
        self.url = f"http://127.0.0.1:{port}"
        self._token = settings["OPERATOR_TOKEN"]
        self.processes: dict[str, Process] = {}
        self.kinds = tuple(read_procfile(project))
        # What the project's own tests rely on when a run is itself killed.
        module = runpy.run_path(str(project / "tests/delivery/support/reaper.py"))
        scratch = project.with_name(f"{project.name}-scratch")
        self._reaper = module["Reaper"](scratch)

    def start(self, *kinds: str) -> None:
        """Start processes of these types."""
        for kind in kinds:
            process = Process(self._project, kind, self._settings, self._reaper)
            self.processes[kind] = process

    def wait_until_ready(self) -> None:
        """Wait until the API answers."""
        eventually(self._answers, within=120, what="the API answers")

    def request(self, path: str, body: object | None = None) -> Any:
        """Send a request as an operator, and return what the answer holds."""
        request = urllib.request.Request(
            f"{self.url}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {self._token}",
                "Content-Type": "application/json",
            },
        )

        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def tasks(self) -> list[dict[str, Any]]:
        """Return the newest 500 tasks."""
        found: list[dict[str, Any]] = self.request("/tasks?limit=500")["tasks"]
        return found

    def kill(self) -> None:
        """Leave nothing of it behind."""
        for process in self.processes.values():
            process.kill()
        self._reaper.close()

    def logs(self) -> str:
        """Return what its processes wrote last, without requests that went well."""
        return "\n".join(
            line
            for kind, process in self.processes.items()
            for line in (
                f"--- {kind}",
                *[
                    line
                    for line in process.log.read_text().splitlines()
                    if " 200 OK" not in line
                ][-40:],
            )
        )

    def _answers(self) -> bool:
        try:
            return bool(self.request("/readyz") == {"status": "ok"})
        except OSError:
            return False


@contextlib.contextmanager
def deployments(*deployed: Deployment) -> Iterator[None]:
    """Kill these in the end, and show what they logged when something went wrong."""
    try:
        yield
    except BaseException as error:
        error.add_note("\n".join(each.logs() for each in deployed))
        raise
    finally:
        for each in deployed:
            each.kill()


def _path(project: Path) -> str:
    return f"{project / '.venv/bin'}{os.pathsep}{os.environ['PATH']}"
