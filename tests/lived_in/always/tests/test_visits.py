"""What this shop counts."""

from fastapi.testclient import TestClient


def test_visits_are_counted(client: TestClient, page: str) -> None:
    before = client.get(f"/visits/{page}").json()
    assert client.post(f"/visits/{page}").json() == "xn--bcher-kva"
    assert client.get(f"/visits/{page}").json() == before + 1
