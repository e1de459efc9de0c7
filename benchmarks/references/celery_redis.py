"""Run Celery on Redis without a ledger, at its safest settings."""

import os

from celery import Celery

from publishing import main
from stamps import stamp

app = Celery("reference", broker=os.environ["BROKER_URL"], set_as_current=False)
app.conf.update(
    task_default_queue="reference",
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    task_publish_retry=False,
    broker_connection_timeout=1,
    broker_transport_options={
        "visibility_timeout": 3600,
        "socket_timeout": 1,
        "socket_connect_timeout": 1,
        "max_retries": 0,
    },
)


@app.task(name="reference")
def trivial(index: int) -> None:
    """Note the time."""
    stamp(index)


def publish(index: int) -> None:
    """Enqueue one task."""
    trivial.delay(index)


if __name__ == "__main__":
    main(publish)
