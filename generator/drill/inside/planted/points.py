"""The points of its code at which a process dies if the drill has armed them."""

import os
import signal
from pathlib import Path


def die_if_armed(where: str) -> None:
    """SIGKILL this process if the drill has armed the point `where`; each arming kills once."""
    try:
        Path(os.environ["DRILL_FOLDER"], f"{os.environ['DRILL_ROLE']}-{where}").unlink()
    except (FileNotFoundError, KeyError):
        return
    os.kill(os.getpid(), signal.SIGKILL)
