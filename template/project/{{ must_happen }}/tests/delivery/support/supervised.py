"""Keep processes running as in production: the promise is about processes that die."""

import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from tests.delivery.support.processes import PATH, Process, signal_group
from tests.delivery.support.reaper import Reaper
from tests.delivery.support.waiting import WITHIN_SECONDS

RESTART_SECONDS = 0.2
"""How long the supervisor waits before it restarts what has exited."""


class Supervised(Process):
    """One process that is restarted whenever it exits, until it is told to stop."""

    def __init__(
        self,
        name: str,
        command: str,
        folder: Path,
        environment: Mapping[str, str],
        reaper: Reaper,
    ) -> None:
        environment = {
            **os.environ,
            "PATH": PATH,
            "PYTHONUNBUFFERED": "1",
            **environment,
        }

        super().__init__(name, command, folder, environment, reaper)
        self._log_start = 0
        self._wanted = False
        self._turn = threading.Lock()
        self._thread: threading.Thread | None = None
        self.start()

    def start(self) -> None:
        """Start it unless it runs, and keep it running."""
        if not self._wanted:
            self._wanted = True
            super().start()
            self._thread = threading.Thread(
                target=self._supervise, name=self.name, daemon=True
            )
            self._thread.start()

    def kill(self) -> None:
        """SIGKILL it with its children, as the end of a container; it is restarted."""
        signal_group(self.pid, signal.SIGKILL)

    def suspend(self) -> None:
        """Stop it and its children from running, as a paused machine does."""
        signal_group(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        signal_group(self.pid, signal.SIGCONT)

    def terminate(self, within: float = WITHIN_SECONDS) -> None:
        """SIGTERM the process itself, and wait until it has exited for good.

        Raises AssertionError when it has not after `within` seconds.
        """
        with self._turn:
            self._wanted = False
            self.ask_to_end()

        try:
            self._join(within)
        finally:
            self.stop()

    def stop(self) -> None:
        """SIGKILL it for good."""
        with self._turn:
            self._wanted = False
            self.kill()
        self._join(WITHIN_SECONDS)

    def begin_log(self) -> None:
        """Leave out of `log_lines` what has been written until now."""
        self._log_start = self._log.stat().st_size

    def log_lines(self) -> list[str]:
        """Return what it has written to its standard output and error."""
        if not self._log.exists():  # The project is gone already.
            return []
        written = self._log.read_bytes()[self._log_start :]
        return written.decode(errors="replace").splitlines()

    def _supervise(self) -> None:
        while True:
            assert self._process is not None
            self._process.wait()
            signal_group(self._process.pid, signal.SIGKILL)  # its orphans
            self._reaper.forget(self._process.pid)

            time.sleep(RESTART_SECONDS)
            with self._turn:
                if not self._wanted:
                    return
                super().start()

    def _join(self, within: float) -> None:
        if self._thread is not None:
            self._thread.join(within)
            assert not self._thread.is_alive(), (
                f"{self.name} has not exited after {within:g} s"
            )
