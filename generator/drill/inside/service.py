"""Run the project's own processes, and restart each one second after it exits."""

import http.client
from collections.abc import Mapping
from pathlib import Path

from tests.delivery.support import supervised
from tests.delivery.support.processes import read_procfile
from tests.delivery.support.reaper import Reaper
from tests.delivery.support.supervised import Supervised
from tests.delivery.support.waiting import eventually

supervised.RESTART_SECONDS = 1.0

START_SECONDS = 180.0
CLOCK = Path(__file__).with_name("clock")
FAKETIME = next(
    (
        library
        for folder in ("usr/lib/*/faketime", "usr/lib*/faketime")
        for library in Path("/").glob(f"{folder}/libfaketime.so.1")
    ),
    None,
)
HTTP_OK = 200


def clock(seconds: float) -> dict[str, str]:
    """Return what shifts the clock of a process that is started with it."""
    if FAKETIME:
        shift = f"{seconds:+.0f}"
        return {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME": shift,
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
    return {"PYTHONPATH": str(CLOCK), "DRILL_CLOCK_SECONDS": str(seconds)}


class Service:
    """The processes of one run."""

    def __init__(
        self,
        folder: Path,
        port: int,
        environment: Mapping[str, str],
        reaper: Reaper,
        overrides: Mapping[str, Mapping[str, str]],
    ) -> None:
        self.port = port
        self._folder = folder
        self._environment = environment
        self._overrides = overrides
        self._reaper = reaper
        self._commands = read_procfile(folder / "Procfile")
        self._all: list[Supervised] = []

        self.api = self.run("api")
        on_sqlite = environment["DATABASE_URL"].startswith("sqlite")
        self.is_embedded = on_sqlite or "worker" not in self._commands
        self.worker = self.api if self.is_embedded else self.run("worker")
        self.has_relay = not self.is_embedded and "relay" in self._commands
        self.relay = self.run("relay") if self.has_relay else self.api

    @property
    def taker(self) -> str:
        """The type of the process that takes due tasks from the ledger."""
        if self.is_embedded:
            return "api"
        return "relay" if self.has_relay else "worker"

    def run(self, role: str, name: str | None = None) -> Supervised:
        """Start a process of this type; several of a type have different names."""
        name = name or role
        environment = {
            **self._environment,
            "DRILL_ROLE": role,
            **self._overrides.get(name, {}),
        }

        process = Supervised(
            name, self._commands[role], self._folder, environment, self._reaper
        )
        self._all.append(process)
        return process

    def wait_until_ready(self) -> None:
        """Wait until the API answers."""
        eventually(
            self._answers, within=START_SECONDS, what="the API answers /readyz with 200"
        )

    def stop(self) -> None:
        """Kill all processes."""
        for process in self._all:
            process.resume()
            process.stop()

    def log_tails(self) -> dict[str, list[str]]:
        """Return the end of each process's log."""
        return {process.name: process.log_lines()[-30:] for process in self._all}

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == HTTP_OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
