"""Messages that no enqueue has sent are refused with one line, and harm nothing."""

import pickle
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.broker import push_bytes, push_message, push_pickle
from tests.support.service import Service


class Exploit:
    """Creates a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return (Path.touch, (self._path,))


@pytest.mark.parametrize("kind", ["no message", "empty", "no id", "forged", "unknown", "pickle"])
def test_stranger(service: Service, tmp_path: Path, kind: str) -> None:
    url = service.broker.url
    opened = tmp_path / "opened"
    match kind:
        case "no message":
            push_bytes(url, b"\x80\x04stranger")
        case "empty":
            push_bytes(url, b"{}")
        case "no id":
            push_message(url, "probe", "stranger")
        case "forged":
            push_message(url, "probe", str(uuid4()))
        case "unknown":
            push_message(url, "no_such_task", str(uuid4()))
        case "pickle":
            push_pickle(url, pickle.dumps([[Exploit(opened)], {}, {}]))
    neighbours = [service.enqueue("probe") for _ in range(5)]
    service.wait_until_finished(within=20)
    assert set(service.effects(neighbours).values()) == {1}
    assert service.database.value("SELECT count(*) FROM probe_starts") == len(neighbours)
    assert not opened.exists()
    log = "\n".join(service.worker.log_lines())
    assert "Traceback" not in log
