"""Run the command in a terminal: what it shows, and keys to press."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

ENTER, DOWN = "\r", "\x1b[B"

_TIME_LIMIT_SECONDS = 600
"""Only a hang takes as long as this."""


class Terminal:
    """A command that runs in a terminal; use it as a context manager."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self._terminal, theirs = pty.openpty()
        self._process = subprocess.Popen(
            [Path(sys.executable).parent / "musthappen", *arguments],
            cwd=directory,
            env={
                **os.environ,
                "TERM": "xterm-256color",
                "COLUMNS": "80",
                "LINES": "50",
            },
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

        self._deadline = time.monotonic() + _TIME_LIMIT_SECONDS
        self.shown = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._terminal)

    def wait_for(self, text: str) -> None:
        """Wait until a text is shown after the last key press."""
        while text not in self.shown:
            self._read()

    def press(self, keys: str) -> None:
        """Press keys."""
        self.shown = ""
        os.write(self._terminal, keys.encode())

    def wait_for_end(self) -> int:
        """Return the exit code."""
        while (code := self._process.poll()) is None:
            self._read()
        return code

    def _read(self) -> None:
        assert time.monotonic() < self._deadline, self.shown
        if select.select([self._terminal], [], [], 0.1)[0]:
            with suppress(OSError):  # The other end is closed.
                seen = os.read(self._terminal, 65536).decode(errors="replace")
                self.shown += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen)
