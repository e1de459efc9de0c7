"""Run servers, workers and load beside a benchmark, and leave none of them behind."""

import contextlib
import json
import os
import pwd
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hooks.commands import inherited

_LOG_CHARACTERS = 3000


class Failed(Exception):  # noqa: N818 - what a benchmark ran did not do its part
    """A program that a benchmark needs failed or took too long."""


class Process:
    """A program that runs until it is stopped."""

    def __init__(
        self,
        command: Sequence[str] | str,
        folder: Path,
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> None:
        self.log = log

        with log.open("ab") as output:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", command] if isinstance(command, str) else command,
                cwd=folder,
                env=inherited({"PYTHONUNBUFFERED": "1", **(environment or {})}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                user=user,
                group=None if user is None else pwd.getpwnam(user).pw_gid,
                extra_groups=None if user is None else [],
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its number, which is its process group's too."""
        return self._process.pid

    def check(self) -> None:
        """Raise if it has exited."""
        if self._process.poll() is not None:
            raise Failed(f"{self._process.args!r} has exited:\n{self.log_end()}")

    def processor_seconds(self) -> float:
        """Return how long it, and all that it started, kept a processor busy."""
        return _processor_seconds(self.pid)

    def pause(self) -> None:
        """Stop it, and all that it started, until `resume`."""
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        os.killpg(self.pid, signal.SIGCONT)

    def log_end(self) -> str:
        """Return the end of what it wrote."""
        return self.log.read_text(errors="replace")[-_LOG_CHARACTERS:]

    def stop(self, within: float = 15, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask it to stop, and kill what of it is left in time."""
        if self._process.poll() is None:
            self._process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(within)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _processor_seconds(root: int) -> float:
    """Return how long a process and its descendants kept a processor busy.

    Those that have ended count as their parents have waited for them.
    """
    used: dict[int, int] = {}
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            pid = int(path.parent.name)
            used[pid] = sum(map(int, fields[11:15]))
            children.setdefault(int(fields[1]), []).append(pid)
    if root not in used:
        raise Failed("only Linux says how busy a process is, while it runs")

    ticks, left = 0, [root]
    while left:
        pid = left.pop()
        ticks += used[pid]
        left += children.get(pid, [])
    return ticks / os.sysconf("SC_CLK_TCK")


def run(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str] | None = None,
    time_limit: float = 900,
) -> str:
    """Run a program until it exits, and return what it printed."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=inherited(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=time_limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"{command[:3]!r} took more than {time_limit:.0f} s") from None

    if done.returncode != 0:
        raise Failed(
            f"{command[:3]!r} failed:\n{(done.stdout + done.stderr)[-_LOG_CHARACTERS:]}"
        )
    return done.stdout


def measure(
    command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> Any:
    """Run a program, and return what the last line that it printed says in JSON."""
    output = run(command, folder, environment)
    return json.loads(output.strip().splitlines()[-1])


def answers(port: int, question: bytes, answer: bytes) -> bool:
    """Whether a server answers a question, and in these bytes."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as client:
            client.sendall(question)
            said = client.recv(len(answer) or 1)
            return bool(said) and said.startswith(answer)
    except OSError:
        return False
