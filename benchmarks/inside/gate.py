"""Let the workers of a benchmark begin together, when all of them are ready."""

import os
import time
from pathlib import Path

READY = "ready to work"


def wait() -> None:
    """Say that this process is ready, and wait until all may begin."""
    print(READY, flush=True)  # noqa: T201 - the benchmark reads it
    while not Path(os.environ["BENCH_GATE"]).exists():
        time.sleep(0.01)
