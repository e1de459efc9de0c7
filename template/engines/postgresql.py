"""Run recorded tasks straight from PostgreSQL, without a broker.

    python -m app.delivery.engine [QUEUE ...]

is the worker, of all queues or of those that are named; any number may run. It is woken
when something is enqueued, and claims what is due in the ledger itself.
"""

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Collection

from app.database import IS_SQLITE, database_engine
from app.delivery import worker
from app.delivery.definitions import queues
from app.settings import LOG_FORMAT

logger = logging.getLogger(__name__)


async def main(consumed: Collection[str] | None) -> None:
    """Run due tasks until SIGTERM or SIGINT; then let them end, or give them back."""
    logger.info("running tasks of %s", ", ".join(consumed or ["all queues"]))
    working = asyncio.create_task(worker.run(asyncio.Event(), consumed))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, working.cancel)

    with contextlib.suppress(asyncio.CancelledError):
        await working
    await database_engine.dispose()


if __name__ == "__main__":
    import uvloop  # Not at the top: Windows, where no worker runs, has none.

    if IS_SQLITE:
        sys.exit("DATABASE_URL names SQLite: the API runs its tasks itself")
    for queue in sys.argv[1:]:
        if queue not in queues():
            sys.exit(f"no task declares the queue {queue!r}; known: {sorted(queues())}")

    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    uvloop.run(main(sys.argv[1:] or None))
