"""Take orders: each request commits one, and then hands its task to the engine."""

from fastapi import FastAPI

from services import orders
from services.engine import enqueue
from services.orders import Work

app = FastAPI()


@app.post("/orders", status_code=202)
async def create_order(work: Work) -> dict[str, str]:
    """Take an order."""
    order_id = await orders.record_order()
    await enqueue(order_id, work)
    return {"id": order_id}


@app.get("/readyz")
async def readyz() -> None:
    """Answer when requests may be sent here."""
