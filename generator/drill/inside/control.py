"""Ask the broker what an operator can, and let it act as if its disk were full."""

import re
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.delivery.support.servers import OwnServer, program

NO_SPACE = "1000GB"
"""More free space than any disk has."""

TASKS = re.compile(r"(celery\.)?default(\.DQ)?|celery_delayed_\d+")
"""RabbitMQ's queues of tasks, without those of events, commands and dead letters."""


def set_space(broker: OwnServer, *, has_space: bool) -> None:
    """Let the broker run out of space.

    Redis refuses writes then; RabbitMQ blocks publishers.
    """
    if broker.url.startswith("redis"):
        with _redis(broker) as redis:
            redis.config_set("maxmemory", 0 if has_space else 1)
    else:
        _rabbitmqctl(broker, "set_disk_free_limit", "50MB" if has_space else NO_SPACE)


def version(broker: OwnServer) -> dict[str, str]:
    """Return the broker's name and version."""
    if broker.url.startswith("redis"):
        with _redis(broker) as redis:
            info = redis.info("server")
        return {
            str(info.get("server_name", "redis")).capitalize(): str(
                info["redis_version"]
            )
        }
    return {"RabbitMQ": _rabbitmqctl(broker, "version").strip()}


def left(broker: OwnServer) -> int:
    """Return how many messages the broker holds, waiting or handed to a worker.

    Dead letters do not count.
    """
    if not broker.url.startswith("redis"):
        options = ("--quiet", "--no-table-headers")
        listed = _rabbitmqctl(broker, "list_queues", *options, "name", "messages")
        queues = dict(line.split("\t") for line in listed.splitlines())
        return sum(int(queues[name]) for name in queues if TASKS.fullmatch(name))

    with _redis(broker) as redis:
        # Celery's, ARQ's and Dramatiq's: each has only its own.
        counts = [
            *(redis.llen("default"), redis.hlen("unacked")),
            redis.zcard("arq:queue"),
            *(
                redis.hlen(f"dramatiq:{queue}.msgs")
                for queue in ("default", "default.DQ")
            ),
        ]

    return sum(map(int, counts))


def _redis(broker: OwnServer) -> Any:  # noqa: ANN401 - its type is not installed
    # Only a project on Redis has its client.
    return import_module("redis").Redis.from_url(broker.url)


def _rabbitmqctl(broker: OwnServer, *arguments: str) -> str:
    control = program("rabbitmqctl", "/usr/lib/rabbitmq/bin")
    assert control is not None, "rabbitmq-server comes with rabbitmqctl"

    done = subprocess.run(
        [control, *arguments],
        env=broker.environment,
        check=True,
        capture_output=True,
        text=True,
        cwd=Path("/"),
    )
    return done.stdout
