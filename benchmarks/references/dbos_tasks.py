"""Run DBOS and its queues, which keep workflows in PostgreSQL and need no broker.

Usage: `prepare`, `publish NUMBER`, or `work`.
"""

import os
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import gate
from dbos import DBOS, DBOSClient

from stamps import stamp

QUEUE = "bench"
VERSION = "1"
URL = os.environ["DATABASE_URL"]


@DBOS.workflow()
def trivial(index: int) -> None:
    """Note the time."""
    stamp(index)


def launch() -> None:
    """Connect, and do what waits in the queue."""
    DBOS(
        config={
            "name": "bench",
            "system_database_url": URL,
            "application_version": VERSION,
            "executor_id": str(uuid.uuid4()),
            "console_log_level": "WARNING",
        }
    )
    DBOS.launch()
    DBOS.register_queue(QUEUE)  # Limits, and polling more often, make it slower.


def publish(number: int) -> None:
    """Enqueue so many workflows."""
    client = DBOSClient(system_database_url=URL)
    options = {
        "queue_name": QUEUE,
        "workflow_name": "trivial",
        "app_version": VERSION,
    }
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda index: client.enqueue(options, index), range(number)))


def main(what: str) -> None:
    """Do what the command line says."""
    if what == "publish":
        publish(int(sys.argv[2]))
        return

    if what == "work":
        gate.wait()
    launch()
    if what == "work":
        threading.Event().wait()
    DBOS.destroy()


if __name__ == "__main__":
    main(sys.argv[1])
