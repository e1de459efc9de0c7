"""Start processes as a test needs them, and none that outlives the test run."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.delivery.support.reaper import Reaper
from tests.delivery.support.waiting import WITHIN_SECONDS

ROOT = Path(__file__).parents[3]

# The commands of the Procfile are found as in an activated virtual environment.
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def environment(**settings: str) -> dict[str, str]:
    """Return an environment with these settings and none of the developer's own."""
    return {"PATH": PATH, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **settings}


def read_procfile(path: Path) -> dict[str, str]:
    """Return the command line of each process type."""
    lines = (
        line.partition(":") for line in path.read_text().splitlines() if line.strip()
    )
    return {name.strip(): command.strip() for name, _, command in lines}


def free_port() -> int:
    """Return a TCP port that nothing listens on."""
    while True:
        # Below the ports that systems give to outgoing connections: one of those would
        # be gone when what listened there has been killed and comes back.
        port = 20_000 + secrets.randbelow(12_768)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def signal_group(group: int, number: signal.Signals) -> None:
    """Send a signal to a process and its children, if any of them is left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def run(
    *command: str, folder: Path, reaper: Reaper, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder until it exits."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment(**settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    reaper.watch(process.pid)

    try:
        output, error = process.communicate(timeout=WITHIN_SECONDS)
    finally:
        signal_group(process.pid, signal.SIGKILL)
        process.communicate()
        reaper.forget(process.pid)
    return subprocess.CompletedProcess(command, process.returncode, output, error)


class Process:
    """A line of the `Procfile` that runs in a folder, with its children."""

    def __init__(
        self,
        name: str,
        command: str,
        folder: Path,
        environment: Mapping[str, str],
        reaper: Reaper,
    ) -> None:
        self.name = name
        self._command = command
        self._folder = folder
        self._environment = environment
        self._reaper = reaper

        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process that runs now."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    def start(self) -> None:
        """Start it."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", self._command],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

        self._reaper.watch(self._process.pid)

    def ask_to_end(self) -> None:
        """SIGTERM the process itself."""
        with contextlib.suppress(ProcessLookupError):  # It died just before.
            os.kill(self.pid, signal.SIGTERM)

    def wait_until_ended(self) -> None:
        """Wait until it has ended of itself, then kill the children that it left."""
        assert self._process is not None
        try:
            self._process.wait(WITHIN_SECONDS)
        finally:
            self.stop()

    def stop(self) -> None:
        """SIGKILL it and its children, if it runs."""
        if self._process is not None:
            signal_group(self._process.pid, signal.SIGKILL)
            self._process.wait(WITHIN_SECONDS)
            self._reaper.forget(self._process.pid)

    def log(self) -> str:
        """Return what it has written to its standard output and error."""
        return self._log.read_text(errors="replace")
