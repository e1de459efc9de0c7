"""Parcels, without a server."""

from datetime import timedelta

import pytest
from fastapi.testclient import TestClient

from app.database import session_factory
from app.delivery import Enqueuer
from app.tasks.parcels import NobodyAtHomeError, deliver
from tests.delivery.helpers import RecordedTasks, enqueued, let_pass, run_due


def test_parcel_is_delivered_once(client: TestClient, tasks: RecordedTasks) -> None:
    answer = client.post("/parcels", json={"number": 7, "street": "Downing Street"})
    assert answer.status_code == 202
    [parcel] = tasks.enqueued(deliver)
    parcel.assert_called_with(7, vain=0, seconds=0)
    assert (parcel.key, parcel.queue) == ("7", "parcels")

    assert tasks.run_due() == 1

    assert client.get("/parcels/totals").json() == {
        "accepted": 1,
        "delivered": 1,
        "deliveries": 1,
    }


async def test_the_carrier_comes_again() -> None:
    async with session_factory.begin() as session:
        await Enqueuer(session).enqueue(deliver, 7, vain=1, seconds=0)

    with pytest.raises(NobodyAtHomeError):
        await run_due()
    await let_pass(timedelta(minutes=1))
    await run_due()

    [parcel] = await enqueued(deliver)
    assert (parcel.status, parcel.attempts) == ("succeeded", 2)
