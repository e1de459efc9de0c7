"""Put messages into the broker that no enqueue has sent, where there is a broker."""

import importlib
import pickle
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from uuid import uuid4

from tests.delivery.support.reaper import Reaper
from tests.delivery.support.servers import OwnServer

from .run import Run

PROJECT = "tests.delivery.support.broker"
"""The project's own module for its broker; without a broker, it has none."""


def start(scratch: Path, reaper: Reaper) -> OwnServer:
    """Start the broker."""
    broker = _project().start_broker(scratch, reaper)
    assert isinstance(broker, OwnServer)
    return broker


def empty(url: str) -> None:
    """Take every message out of the broker."""
    _project().empty(url)


def push_again(run: Run, limit: int | None = None) -> None:
    """Repeat the messages of tasks that were sent before."""
    if run.servers.broker is not None:
        for task_id in run.traffic.answered[:limit]:
            _project().push_message(run.broker.url, "drill", str(task_id))


def push_strangers(run: Run, opened: Path) -> None:
    """Put garbage, pickles, unknown names and forged ids into the queue."""
    project, url = _project(), run.broker.url
    project.push_bytes(url, b"\x80\x04stranger")
    project.push_bytes(url, b"{}")
    project.push_message(url, "drill", "stranger")
    project.push_message(url, "drill", str(uuid4()))
    project.push_message(url, "no_such_task", str(uuid4()))
    project.push_pickle(url, pickle.dumps([[_Exploit(opened)], {}, {}]))


def _project() -> ModuleType:
    return importlib.import_module(PROJECT)


class _Exploit:
    """Creates a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (Path.touch, (self._path,))
