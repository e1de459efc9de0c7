"""Outlive the test run in a process, so that nothing else does.

Fixtures stop what they started, but a run that is itself killed runs no fixture. The
reaper holds the reading end of a pipe whose only writer is the test run: when the run
ends, however it ends, the pipe closes and the reaper kills every process group it was
told of and removes the scratch directory.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path


class Reaper:
    """The test run's end of the pipe."""

    def __init__(self, scratch: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(scratch)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def watch(self, group: int) -> None:
        """Have the process group `group` killed when the run ends."""
        self._tell(f"+{group}")

    def forget(self, group: int) -> None:
        """Leave `group` alone: it has ended, and its number may be given to another."""
        self._tell(f"-{group}")

    def close(self) -> None:
        """Kill and remove what is left, and wait until that is done."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=120)

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())
        self._process.stdin.flush()


def main(scratch: str) -> None:
    """Read groups until the pipe closes, then kill and remove."""
    groups: set[int] = set()
    for line in sys.stdin:
        (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1])
