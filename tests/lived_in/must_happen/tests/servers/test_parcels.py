"""Parcels, with real servers and a worker that dies."""

from uuid import UUID

from tests.delivery.support.service import Service


def test_parcel_is_delivered_once_though_its_worker_is_killed(service: Service) -> None:
    before = service.http.get("/parcels/totals").json()["deliveries"]
    parcel = {"number": before + 7, "street": "Downing Street", "vain": 1, "seconds": 1}
    answer = service.http.post("/parcels", json=parcel)
    assert answer.status_code == 202
    service.wait_for(UUID(answer.json()), "running")
    service.worker.kill()
    service.wait_for(UUID(answer.json()))
    assert service.http.get("/parcels/totals").json()["deliveries"] == before + 1
