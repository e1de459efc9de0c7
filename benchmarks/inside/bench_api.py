"""Give the service's API the routes that the benchmarks ask."""

import asyncio
import importlib
import inspect
import os
import time
from decimal import Decimal
from typing import Any

from fastapi import HTTPException
from sqlalchemy import insert

from app.dependencies import Session, Tasks
from app.main import app
from app.models import Order
from app.tasks.bench_tasks import trivial

__all__ = ["app"]

# What publishes a task of the bare engine; there is none for the embedded executor.
_reference: Any = importlib.import_module(os.environ.get("BENCH_REFERENCE", "stamps"))


def _add_row(session: Session) -> None:
    session.add(Order(email="ada@example.com", amount=Decimal("12.50")))


@app.post("/row", status_code=202)
async def row(session: Session) -> dict[str, float]:
    """Write one row."""
    _add_row(session)
    return {"at": time.time()}


@app.post("/two-rows", status_code=202)
async def two_rows(session: Session) -> dict[str, float]:
    """Write two rows, as what enqueues has to."""
    _add_row(session)
    await session.execute(
        insert(Order).values(email="ada@example.com", amount=Decimal("12.50"))
    )
    return {"at": time.time()}


@app.post("/row-and-task", status_code=202)
async def row_and_task(
    session: Session, tasks: Tasks, index: int = 0
) -> dict[str, float]:
    """Write one row and enqueue one task."""
    at = time.time()
    _add_row(session)
    await tasks.enqueue(trivial, index)
    return {"at": at}


@app.post("/row-and-engine-in-thread", status_code=202)
async def row_and_engine_in_thread(session: Session) -> dict[str, float]:
    """Write one row and call the engine in a thread, or await it if it is async."""
    _add_row(session)
    try:
        if inspect.iscoroutinefunction(_reference.publish):
            await _reference.publish(0)
        else:
            await asyncio.to_thread(_reference.publish, 0)
    except Exception as error:
        raise HTTPException(503) from error
    return {"at": time.time()}


@app.post("/row-and-engine-on-loop", status_code=202)
async def row_and_engine_on_loop(session: Session) -> dict[str, float]:
    """Write one row and call the engine where nothing may block."""
    _add_row(session)
    try:
        _reference.publish(0)
    except Exception as error:
        raise HTTPException(503) from error
    return {"at": time.time()}
