"""The routes for probes and monitors, and the bound on request bodies."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from app.settings import settings
from tests.delivery.support import lingering  # noqa: F401 -- a route with a body


@pytest.mark.parametrize("probe", ["/livez", "/readyz"])
def test_probes_answer(client: TestClient, probe: str) -> None:
    answer = client.get(probe)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_metrics_are_in_the_format_of_prometheus(client: TestClient) -> None:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert "# TYPE nice_to_have_tasks_total counter" in answer.text


def test_larger_bodies_are_refused(client: TestClient) -> None:
    answer = client.post("/livez", content=b" " * (settings.max_body_bytes + 1))
    assert answer.status_code == 413


def test_larger_bodies_of_unknown_length_are_refused(client: TestClient) -> None:
    def body() -> Iterator[bytes]:
        for _ in range(settings.max_body_bytes // 65_536 + 1):
            yield b" " * 65_536

    assert client.post("/linger", content=body()).status_code == 413
