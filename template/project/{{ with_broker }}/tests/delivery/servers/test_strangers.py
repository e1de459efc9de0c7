"""Messages that no enqueue has sent are refused with one line, and harm nothing."""

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from tests.delivery.support.broker import push_bytes, push_message, push_pickle
from tests.delivery.support.service import Service
from tests.delivery.support.waiting import eventually


class Exploit:
    """Creates a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (Path.touch, (self._path,))


@pytest.mark.parametrize(
    "kind", ["no message", "empty", "no id", "forged", "unknown", "pickle"]
)
def test_stranger(service: Service, tmp_path: Path, kind: str) -> None:
    url = service.broker.url
    opened = tmp_path / "opened"
    forged = str(uuid4())
    logged = "(?i)dropped|dead-lettered"
    match kind:
        case "no message":
            push_bytes(url, b"\x80\x04stranger")
        case "empty":
            push_bytes(url, b"{}")
        case "no id":
            push_message(url, "probe", "stranger")
        case "forged":
            push_message(url, "probe", forged)
            logged = f"nothing to run for task {forged}"
        case "unknown":
            push_message(url, "no_such_task", forged)
            logged = f"nothing to run for task {forged}"
        case "pickle":
            push_pickle(url, pickle.dumps([[Exploit(opened)], {}, {}]))
    neighbours = [service.enqueue("probe") for _ in range(5)]
    service.wait_until_finished()
    assert set(service.effects(neighbours).values()) == {1}
    assert service.database.value("SELECT count(*) FROM probe_starts") == len(
        neighbours
    )
    assert not opened.exists()

    def about_it() -> list[str]:
        return [line for line in service.worker.log_lines() if re.search(logged, line)]

    eventually(about_it, what="the worker logs what it does with the message")
    assert len(about_it()) == 1
    assert "Traceback" not in "\n".join(service.worker.log_lines())
