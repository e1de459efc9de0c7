"""Let a process die at points of its code that the drill has armed."""

import os
import signal
from pathlib import Path


def die_if_armed(where: str) -> None:
    """SIGKILL this process, once, if the drill has armed the point `where`."""
    try:
        Path(os.environ["DRILL_FOLDER"], f"{os.environ['DRILL_ROLE']}-{where}").unlink()
    except (FileNotFoundError, KeyError):
        return
    os.kill(os.getpid(), signal.SIGKILL)
