"""Give a nice-to-have project's API the routes that the benchmarks ask."""

import os
import sys
import threading

from fastapi import BackgroundTasks

from app.delivery import nice_to_have, threads
from app.dependencies import Tasks
from app.main import app

__all__ = ["app"]

TASKS_OF_A_FLOOD = 50  # Of each request; they run one after the other.
HEAVY_ROUNDS = 2_000_000  # About a twentieth of a second of pure Python.

if number := os.environ["BENCH_THREADS"]:
    threads.THREADS = int(number)
else:
    sys.setswitchinterval(0.005)  # As it is in a service of one's own.


async def nothing(value: int) -> None:
    """Do nothing."""


def heavy(times: int = 1) -> None:
    """Keep a processor busy."""
    for _ in range(times * HEAVY_ROUNDS):
        pass


our_nothing = nice_to_have(nothing)
our_heavy = nice_to_have(time_limit=600)(heavy)


@app.post("/none")
async def none() -> None:
    """Enqueue nothing."""


@app.post("/bare")
async def bare(background_tasks: BackgroundTasks) -> None:
    """Add a task as FastAPI's documentation does."""
    background_tasks.add_task(nothing, 1)


@app.post("/ours")
async def ours(tasks: Tasks) -> None:
    """Enqueue the same task."""
    await tasks.enqueue(our_nothing, 1)


@app.get("/sync")
def sync() -> None:
    """Answer from a thread, as any `def` route does."""


@app.post("/flood/bare")
async def flood_bare(background_tasks: BackgroundTasks) -> None:
    """Add tasks that keep a processor busy."""
    for _ in range(TASKS_OF_A_FLOOD):
        background_tasks.add_task(heavy)


@app.post("/flood/thread")
async def flood_thread() -> None:
    """Keep a processor busy without any task: what Python's threads cost each other."""
    threading.Thread(target=heavy, args=[1000], daemon=True).start()


@app.post("/flood/ours")
async def flood_ours(tasks: Tasks) -> None:
    """Enqueue the same tasks."""
    for _ in range(TASKS_OF_A_FLOOD):
        await tasks.enqueue(our_heavy)
