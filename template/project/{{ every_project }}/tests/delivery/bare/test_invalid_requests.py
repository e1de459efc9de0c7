"""Requests that do not fit are answered, whatever is in them."""

import pytest
from fastapi.testclient import TestClient

from tests.delivery.support import lingering  # noqa: F401 -- a route with a body


@pytest.mark.parametrize(
    "body",
    ['{"until": NaN}', '{"until": Infinity}', r'{"until": "\ud800"}', "[", "null"],
)
def test_invalid_body_is_answered_with_422(client: TestClient, body: str) -> None:
    answer = client.post(
        "/linger", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422
    for problem in answer.json()["detail"]:
        assert problem.keys() == {"type", "loc", "msg"}
