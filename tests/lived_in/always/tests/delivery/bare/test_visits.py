"""What this shop counts."""

from fastapi.testclient import TestClient


def test_visits_are_counted(client: TestClient) -> None:
    before = client.get("/visits/bücher").json()
    assert client.post("/visits/bücher").json() == "xn--bcher-kva"
    assert client.get("/visits/bücher").json() == before + 1
