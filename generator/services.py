"""Run a generated service: read its Procfile, find it a port, and wait for it."""

import contextlib
import re
import secrets
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Seen = TypeVar("Seen")


def read_procfile(project: Path) -> dict[str, str]:
    """Return the command of each type of process; without a Procfile, there is none."""
    file = project / "Procfile"
    text = file.read_text() if file.is_file() else ""

    return dict(re.findall(r"(?m)^([\w-]+):\s*(.+)$", text))


def free_port() -> int:
    """Return a TCP port that nothing listens on.

    It lies below the ports that systems give to outgoing connections. One of those
    could be gone when what listened there has been killed and comes back.
    """
    while True:
        port = 20_000 + secrets.randbelow(12_768)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def eventually(look: Callable[[], Seen], what: str, *, within: float = 120) -> Seen:
    """Call `look` until it returns something true, and return that.

    Raises:
        TimeoutError: It did not, for so many seconds.
    """
    deadline = time.monotonic() + within
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within:g} s: {what} (last: {seen!r})")
        time.sleep(0.05)

    return seen
