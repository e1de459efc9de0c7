"""The service as a process of its own, because what a signal does to it cannot be imitated."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx2

from tests.delivery.bare.waiting import WITHIN_SECONDS, eventually

ROOT = Path(__file__).parents[3]


def environment(**settings: str) -> dict[str, str]:
    """Return an environment with these settings and none of the developer's own."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **settings}


def run(
    *command: str, folder: Path, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder until it exits."""
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(**settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def free_port() -> int:
    """Return a TCP port that nothing listens on."""
    while True:
        # Below the ports that systems give to outgoing connections: one of those would
        # be gone when what listened there has been killed and comes back.
        port = 20_000 + secrets.randbelow(12_768)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Service:
    """The `api` line of the `Procfile`, run in a folder without a `.env`."""

    def __init__(self, folder: Path, application: str, **settings: str) -> None:
        port = free_port()
        self._folder = folder
        self._settings = {"PORT": str(port), **settings}
        self._log = folder / "api.log"
        lines = (ROOT / "Procfile").read_text().splitlines()
        [line] = [line for line in lines if line.startswith("api:")]
        command = line.removeprefix("api:").replace("app.main:app", application)
        self.command = command.replace("0.0.0.0", "127.0.0.1")  # noqa: S104 -- not bound
        self.http = httpx2.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=WITHIN_SECONDS
        )

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", self.command],
                cwd=self._folder,
                env=environment(**self._settings),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        eventually(self._answers)

    def kill(self) -> None:
        """SIGKILL it."""
        self._process.kill()
        self._process.wait(timeout=WITHIN_SECONDS)

    def terminate(self) -> None:
        """SIGTERM it, and wait until it has exited of itself."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=WITHIN_SECONDS)

    def close(self) -> None:
        """Leave nothing behind."""
        self.http.close()
        if self._process.poll() is None:
            self.kill()

    def log(self) -> str:
        """Return what it has written to its standard output and error."""
        return self._log.read_text()

    def _answers(self) -> bool:
        assert self._process.poll() is None, self.log()
        try:
            return self.http.get("/readyz").status_code == 200
        except httpx2.TransportError:
            return False
