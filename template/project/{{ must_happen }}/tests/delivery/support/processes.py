"""The `Procfile` as real processes, because the promise is about processes that die."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from tests.delivery.support.reaper import Reaper

RESTART_SECONDS = 0.2
"""How long the supervisor waits before it restarts what has exited."""


def read_procfile(path: Path) -> dict[str, str]:
    """Return the command line of each process type."""
    lines = (
        line.partition(":") for line in path.read_text().splitlines() if line.strip()
    )
    return {name.strip(): command.strip() for name, _, command in lines}


class Supervised:
    """One process that is restarted whenever it exits, until it is told to stop."""

    def __init__(
        self,
        name: str,
        command: str,
        folder: Path,
        environment: Mapping[str, str],
        reaper: Reaper,
    ) -> None:
        self.name = name
        self._log = folder / f"{name}.log"
        self._log_start = 0
        self._command = command
        self._folder = folder
        self._environment = environment
        self._reaper = reaper
        self._wanted = False
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self.start()

    @property
    def pid(self) -> int:
        """The process that runs now."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    def start(self) -> None:
        """Start it unless it runs, and keep it running."""
        if not self._wanted:
            self._wanted = True
            self._launch()
            self._thread = threading.Thread(
                target=self._supervise, name=self.name, daemon=True
            )
            self._thread.start()

    def kill(self) -> None:
        """SIGKILL it with all its children, as the end of a container does; it is restarted."""
        _signal_group(self.pid, signal.SIGKILL)

    def suspend(self) -> None:
        """Stop it and its children from running, as a paused machine does."""
        _signal_group(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        _signal_group(self.pid, signal.SIGCONT)

    def terminate(self, within: float) -> None:
        """SIGTERM the process itself, and wait until it has exited; it is not restarted.

        Raises AssertionError when it has not after `within` seconds.
        """
        with self._turn:
            self._wanted = False
            with contextlib.suppress(ProcessLookupError):  # It died just before.
                os.kill(self.pid, signal.SIGTERM)
        try:
            self._join(within)
        finally:
            self.stop()

    def stop(self) -> None:
        """SIGKILL it for good."""
        with self._turn:
            self._wanted = False
            _signal_group(self.pid, signal.SIGKILL)
        self._join(within=10)

    def begin_log(self) -> None:
        """Leave out of `log_lines` what has been written until now."""
        self._log_start = self._log.stat().st_size

    def log_lines(self) -> list[str]:
        """What it has written to its standard output and error."""
        return (
            self._log.read_bytes()[self._log_start :]
            .decode(errors="replace")
            .splitlines()
        )

    def _launch(self) -> None:
        # As an activated virtual environment does; the Procfile's commands are found
        # there.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", self._command],
                cwd=self._folder,
                env={
                    **os.environ,
                    "PATH": path,
                    "PYTHONUNBUFFERED": "1",
                    **self._environment,
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._reaper.watch(self._process.pid)

    def _supervise(self) -> None:
        while True:
            assert self._process is not None
            self._process.wait()
            _signal_group(self._process.pid, signal.SIGKILL)  # its orphans
            self._reaper.forget(self._process.pid)
            time.sleep(RESTART_SECONDS)
            with self._turn:
                if not self._wanted:
                    return
                self._launch()

    def _join(self, within: float) -> None:
        if self._thread is not None:
            self._thread.join(within)
            assert not self._thread.is_alive(), (
                f"{self.name} has not exited after {within:g} s"
            )


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)
