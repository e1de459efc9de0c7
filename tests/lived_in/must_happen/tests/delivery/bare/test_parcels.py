"""Parcels, without a server."""

from fastapi.testclient import TestClient

from tests.delivery.bare.waiting import eventually


def test_parcel_is_delivered_once(client: TestClient) -> None:
    answer = client.post("/parcels", json={"number": 7, "street": "Downing Street"})
    assert answer.status_code == 202
    task = f"/tasks/{answer.json()}"
    eventually(lambda: client.get(task).json()["status"] == "succeeded")
    assert client.get("/parcels/totals").json() == {
        "accepted": 1,
        "delivered": 1,
        "deliveries": 1,
    }
