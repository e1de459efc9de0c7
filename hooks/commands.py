"""Run other programs, away from our environment, in time, and leave none behind."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from uv import find_uv_bin

# What would point uv, git or Python at our own environment instead of the project's;
# and what would make every start of its programs compile all that they import.
_OURS = (
    "GIT_DIR",
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONHOME",
    "PYTHONPATH",
    "UV_FROZEN",
    "UV_LOCKED",
    "UV_NO_SYNC",
    "UV_PROJECT_ENVIRONMENT",
    "VIRTUAL_ENV",
)

# What an interrupted test run may take to stop the servers that it started.
_GRACE_SECONDS = 30

_running: set[subprocess.Popen[str]] = set()
_stopped = threading.Event()


@dataclass(frozen=True)
class Outcome:
    """How a program ended."""

    ok: bool
    output: str
    seconds: float

    @property
    def last_line(self) -> str:
        """The line that most likely says what went wrong."""
        lines = [line for line in self.output.splitlines() if line.strip()]
        return lines[-1].strip() if lines else "no output"


def forget_repository() -> None:
    """Forget in whose hook we run: git is told which repository is meant.

    Copier, too, runs git in our environment.
    """
    with suppress(FileNotFoundError):
        command = ["git", "rev-parse", "--local-env-vars"]
        named = subprocess.run(command, capture_output=True, text=True, check=False)
        for name in named.stdout.split():
            os.environ.pop(name, None)


def uv(*arguments: str) -> list[str]:
    """Return the command line of the uv beside us, which need not be on the PATH."""
    return [os.fsdecode(find_uv_bin()), *arguments]


def git(directory: Path, *arguments: str) -> Outcome:
    """Run git in a directory; a look writes nothing, not even git's own notes."""
    return run(["git", *arguments], directory, environment={"GIT_OPTIONAL_LOCKS": "0"})


def run(
    command: Sequence[str],
    directory: Path,
    *,
    environment: Mapping[str, str] | None = None,
    time_limit: float = 600,
) -> Outcome:
    """Run a program in a directory, at most `time_limit` seconds long."""
    if _stopped.is_set():
        return Outcome(ok=False, output="stopped", seconds=0)

    started = time.monotonic()
    with _start(command, directory, environment) as process:
        try:
            output, _ = process.communicate(timeout=time_limit)
        except subprocess.TimeoutExpired:
            _stop(process)
            output = f"{process.communicate()[0]}\nstopped after {time_limit:.0f} s"
        except BaseException:
            _stop(process)
            raise
        finally:
            _running.discard(process)

    return Outcome(process.returncode == 0, output, time.monotonic() - started)


def stream(
    command: Sequence[str], directory: Path, on_line: Callable[[str], None]
) -> None:
    """Run a program in a directory, and hand on each line as soon as it is printed."""
    with _start(command, directory) as process:
        try:
            for line in process.stdout or ():
                on_line(line.rstrip())
        finally:
            _stop(process)
            _running.discard(process)


def inherited(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return our environment without what is meant for us, but with these variables."""
    ours = {name: value for name, value in os.environ.items() if name not in _OURS}
    return {**ours, **(environment or {})}


def stop_all() -> None:
    """Stop every program that another thread is running, and start no other."""
    _stopped.set()
    for process in list(_running):
        _stop(process)


def _start(
    command: Sequence[str],
    directory: Path,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        command,
        cwd=directory,
        env=inherited(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )

    _running.add(process)
    return process


def _stop(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
