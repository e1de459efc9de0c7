"""Run the model: by default the same examples each time, up to one that fails."""

import argparse
import gc
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis.stateful import run_state_machine_as_test


def main() -> None:
    """Read the command line, prepare a database and run."""
    parser = argparse.ArgumentParser(prog="ledger_model", description=__doc__)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--seed", default="1", help="a number, or `random`")
    parser.add_argument("--postgresql", action="store_true", help="instead of SQLite")
    parser.add_argument(
        "--no-shrink", action="store_true", help="show the first failure as it is"
    )
    options = parser.parse_args()
    seed = secrets.randbelow(2**32) if options.seed == "random" else int(options.seed)
    _say(f"{options.examples} examples of {options.steps} steps, seed {seed}")

    with _postgresql() if options.postgresql else _sqlite() as url:
        os.environ["DATABASE_URL"] = url
        os.environ["BROKER_URL"] = "redis://stand-in"
        from .machine import Ledger  # noqa: PLC0415 - it reads the settings

        gc.freeze()
        gc.set_threshold(50_000)
        started = time.perf_counter(), time.process_time()
        phases = (
            [Phase.generate] if options.no_shrink else [Phase.generate, Phase.shrink]
        )
        try:
            run_state_machine_as_test(
                hypothesis.seed(seed)(Ledger),
                settings=hypothesis.settings(
                    max_examples=options.examples,
                    stateful_step_count=options.steps,
                    deadline=None,
                    database=None,
                    phases=phases,
                    report_multiple_bugs=False,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        except BaseException:
            _say(f"not sound, after {Ledger.examples} examples")
            raise
        seconds = time.perf_counter() - started[0]
        busy = time.process_time() - started[1]
        _say(f"sound: {options.examples} examples in {seconds:.0f} s, CPU {busy:.0f} s")


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


@contextmanager
def _sqlite() -> Iterator[str]:
    memory = Path("/dev/shm")  # noqa: S108 - in a folder of its own
    parent = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="ledger-model-", dir=parent) as folder:
        yield f"sqlite+aiosqlite:///{folder}/app.db"


@contextmanager
def _postgresql() -> Iterator[str]:
    # The project's own.
    from tests.delivery.support.database import Database, sibling  # noqa: PLC0415
    from tests.delivery.support.reaper import Reaper  # noqa: PLC0415
    from tests.delivery.support.servers import start_postgresql  # noqa: PLC0415

    scratch = Path(tempfile.mkdtemp(prefix="ledger-model-"))
    scratch.chmod(0o711)  # the user who runs PostgreSQL passes through
    reaper = Reaper(scratch)
    name = f"model_{secrets.token_hex(6)}"
    server = start_postgresql(scratch, reaper)
    try:
        database = Database(server.url)
        database.run(
            f"CREATE DATABASE {name}",
            f"ALTER DATABASE {name} SET lock_timeout = '10s'",
            f"ALTER DATABASE {name} SET synchronous_commit = off",
        )
        database.close()
        yield sibling(server.url, name)
    finally:
        server.stop()
        reaper.close()


if __name__ == "__main__":
    main()
