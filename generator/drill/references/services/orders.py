"""Record orders in PostgreSQL, and do the work that each needs, however it is run."""

import asyncio
import os
import time
from uuid import uuid4

from pydantic import BaseModel
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

ATTEMPTS = 20
PAUSE_SECONDS = 1  # Between two of them.

_url = make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+asyncpg")
database = create_async_engine(_url)


class Work(BaseModel):
    """What an order needs: so many seconds, after so many failures and a delay."""

    seconds: float = 0
    failures: int = 0
    delay: float = 0


async def record_order() -> str:
    """Write the row of an order, commit it, and return its id."""
    order_id = str(uuid4())
    async with database.begin() as connection:
        await connection.execute(
            text("INSERT INTO drill_requests (task_id) VALUES (:id)"), {"id": order_id}
        )
    return order_id


async def fulfil_order(order_id: str, seconds: float, failures: int) -> None:
    """Do the work of an order, and write its effect: a row that should exist once."""
    starting = text(
        "INSERT INTO drill_starts (task_id, attempt, pid, clock, at)"
        " SELECT CAST(:id AS varchar), count(*) + 1, CAST(:pid AS integer),"
        " CAST(:clock AS double precision), extract(epoch FROM clock_timestamp())"
        " FROM drill_starts WHERE task_id = CAST(:id AS varchar) RETURNING attempt"
    )

    values = {"id": order_id, "pid": os.getpid(), "clock": time.time()}
    async with database.begin() as connection:
        attempt = (await connection.execute(starting, values)).scalar_one()

    await asyncio.sleep(seconds)
    if attempt <= failures:
        raise RuntimeError(f"failure {attempt}")

    async with database.begin() as connection:
        await connection.execute(
            text("INSERT INTO drill_effects (task_id, attempt) VALUES (:id, :attempt)"),
            {"id": order_id, "attempt": attempt},
        )
