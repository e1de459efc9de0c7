"""Take orders without an engine: FastAPI's own background tasks do the work."""

import asyncio

from fastapi import BackgroundTasks, FastAPI

from services import orders
from services.orders import ATTEMPTS, PAUSE_SECONDS, Work, fulfil_order

app = FastAPI()


async def fulfil(order_id: str, work: Work) -> None:
    """Try again after a failure, as engines do, but in memory."""
    await asyncio.sleep(work.delay)
    for _ in range(ATTEMPTS - 1):
        try:
            return await fulfil_order(order_id, work.seconds, work.failures)
        except Exception:  # noqa: BLE001 - whatever it is, it may pass
            await asyncio.sleep(PAUSE_SECONDS)
    return await fulfil_order(order_id, work.seconds, work.failures)


@app.post("/orders", status_code=202)
async def create_order(work: Work, background_tasks: BackgroundTasks) -> dict[str, str]:
    """Take an order."""
    order_id = await orders.record_order()
    background_tasks.add_task(fulfil, order_id, work)
    return {"id": order_id}


@app.get("/readyz")
async def readyz() -> None:
    """Answer when requests may be sent here."""
