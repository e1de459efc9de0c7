"""Tasks that run after the response, in this process."""

import asyncio
import math
import threading
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import (
    BackgroundTasks,
    Depends,
    FastAPI,
    HTTPException,
    Response,
    WebSocket,
)
from fastapi.testclient import TestClient
from prometheus_client import REGISTRY
from starlette.background import BackgroundTask
from starlette.types import Message, Receive, Scope, Send

from app.delivery import NiceToHaveTask, nice_to_have, threads
from app.delivery.nice_to_have import prepare, run_calls
from app.delivery.threads import OVERDUE, THREADS
from app.dependencies import Tasks
from tests.delivery.support.waiting import WITHIN_SECONDS, eventually_async


def run_after_a_response(*enqueued: NiceToHaveTask[[]]) -> None:
    """Enqueue tasks in one request and wait until they have ended."""
    api = FastAPI()

    @api.post("/")
    async def route(tasks: Tasks) -> None:
        for task in enqueued:
            await tasks.enqueue(task)

    assert TestClient(api).post("/").status_code == 200


def count(name: str, outcome: str) -> float:
    """Return how many tasks of this name ended so."""
    labels = {"name": name, "outcome": outcome}
    return REGISTRY.get_sample_value("nice_to_have_tasks_total", labels) or 0


def test_tasks_of_dependency_and_route_run_in_order_after_the_response() -> None:
    events: list[str] = []

    @nice_to_have
    async def on_the_loop(what: str) -> None:
        # The client's loop.
        assert threading.current_thread() is not threading.main_thread()
        asyncio.get_running_loop()
        events.append(what)

    @nice_to_have
    def in_a_thread(*, what: str) -> None:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        events.append(what)

    api = FastAPI()

    async def dependency(tasks: Tasks) -> None:
        await tasks.enqueue(in_a_thread, what="dependency")

    @api.post("/", status_code=202)
    async def route(tasks: Tasks, _: Annotated[None, Depends(dependency)]) -> None:
        await tasks.enqueue(on_the_loop, "first")
        await tasks.enqueue(in_a_thread, what="second")
        await tasks.enqueue(on_the_loop, what="third")

    async def observed(scope: Scope, receive: Receive, send: Send) -> None:
        async def observe(message: Message) -> None:
            events.append(message["type"])
            await send(message)

        await api(scope, receive, observe)

    assert TestClient(observed).post("/").status_code == 202
    assert events == [
        "http.response.start",
        "http.response.body",
        "dependency",
        "first",
        "second",
        "third",
    ]


@pytest.mark.parametrize(
    "error", [ValueError, SystemExit, StopIteration, asyncio.CancelledError]
)
@pytest.mark.parametrize("kind", ["async def", "def"])
def test_failing_task_is_logged_and_counted_and_the_next_runs(
    kind: str, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[str] = []

    @nice_to_have
    async def fails_on_the_loop() -> None:
        raise error("on purpose")

    @nice_to_have
    def fails_in_a_thread() -> None:
        raise error("on purpose")

    @nice_to_have
    async def follows() -> None:
        ran.append("follows")

    def leave_trace() -> None:
        ran.append("FastAPI's own")

    failing = fails_on_the_loop if kind == "async def" else fails_in_a_thread
    before = count(failing.name, "failed")
    api = FastAPI()

    @api.post("/")
    async def route(tasks: Tasks, background_tasks: BackgroundTasks) -> None:
        await tasks.enqueue(failing)
        await tasks.enqueue(follows)
        background_tasks.add_task(leave_trace)

    assert TestClient(api).post("/").status_code == 200
    assert ran == ["follows", "FastAPI's own"]
    assert count(failing.name, "failed") == before + 1
    assert f"{failing.name} failed" in caplog.text
    assert "TimeoutError" not in caplog.text


def test_tasks_run_beside_background_tasks_of_the_response_itself() -> None:
    ran: list[str] = []

    @nice_to_have
    async def injected() -> None:
        ran.append("injected")

    api = FastAPI()

    @api.post("/")
    async def route(tasks: Tasks) -> Response:
        await tasks.enqueue(injected)
        return Response(background=BackgroundTask(ran.append, "the response's"))

    assert TestClient(api).post("/").status_code == 200
    assert ran == ["the response's", "injected"]


def test_tasks_of_a_request_that_fails_do_not_run() -> None:
    ran: list[None] = []

    @nice_to_have
    async def injected() -> None:
        ran.append(None)

    api = FastAPI()

    @api.post("/")
    async def route(tasks: Tasks) -> None:
        await tasks.enqueue(injected)
        raise HTTPException(418)

    assert TestClient(api).post("/").status_code == 418
    assert ran == []


def test_websockets_are_told_that_they_have_no_response() -> None:
    api = FastAPI()

    @api.websocket("/")
    async def route(websocket: WebSocket, tasks: Tasks) -> None:
        await websocket.accept()

    with (
        pytest.raises(RuntimeError, match="a websocket"),
        TestClient(api).websocket_connect("/"),
    ):
        pass


@pytest.mark.parametrize("kind", ["async def", "def"])
def test_attempts(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    attempts: list[int] = []

    def fail_twice() -> None:
        attempts.append(len(attempts) + 1)
        if len(attempts) < 3:
            raise ConnectionError(f"failure {len(attempts)}")

    @nice_to_have(max_attempts=3)
    async def retried_on_the_loop() -> None:
        fail_twice()

    @nice_to_have(max_attempts=3)
    def retried_in_a_thread() -> None:
        fail_twice()

    task = retried_on_the_loop if kind == "async def" else retried_in_a_thread
    run_after_a_response(task)
    assert attempts == [1, 2, 3]
    assert count(task.name, "succeeded") == 1
    assert count(task.name, "failed") == 0
    assert "failure 1" in caplog.text
    assert "failure 2" in caplog.text


def test_attempts_end() -> None:
    attempts: list[None] = []

    @nice_to_have(max_attempts=2)
    async def always_fails() -> None:
        attempts.append(None)
        raise ConnectionError

    run_after_a_response(always_fails)
    assert len(attempts) == 2
    assert count("always_fails", "failed") == 1


def test_time_limit_covers_all_attempts_and_the_next_task_runs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    attempts: list[str] = []
    release = threading.Event()

    @nice_to_have(time_limit=0.05, max_attempts=2)
    async def hangs_on_the_loop() -> None:
        attempts.append("hangs_on_the_loop")
        await asyncio.Event().wait()

    @nice_to_have(time_limit=0.05, max_attempts=2)
    def hangs_in_a_thread() -> None:
        attempts.append("hangs_in_a_thread")
        release.wait(WITHIN_SECONDS)

    @nice_to_have
    def follows_what_hangs() -> None:
        attempts.append("follows_what_hangs")

    run_after_a_response(hangs_on_the_loop, hangs_in_a_thread, follows_what_hangs)
    release.set()
    assert attempts == ["hangs_on_the_loop", "hangs_in_a_thread", "follows_what_hangs"]
    assert count("hangs_on_the_loop", "failed") == 1
    assert count("hangs_in_a_thread", "failed") == 1
    assert caplog.text.count("TimeoutError") >= 2


async def has_a_turn(task: NiceToHaveTask[[]]) -> bool:
    """Run a task; return whether it had the time to end."""
    before = count(task.name, "succeeded")
    await run_calls([prepare(task)])
    return count(task.name, "succeeded") == before + 1


async def test_def_tasks_past_their_time_limit_hold_up_the_next_only_when_they_are_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads, "OVERDUE", 2)
    release = threading.Event()
    ended: list[None] = []

    @nice_to_have(time_limit=0.2)
    def hangs_for_long() -> None:
        release.wait(WITHIN_SECONDS)
        ended.append(None)

    @nice_to_have
    def takes_its_time() -> None:
        release.wait(WITHIN_SECONDS)

    @nice_to_have
    def has_its_turn() -> None: ...

    @nice_to_have(time_limit=0.05)
    def waits_for_its_turn() -> None: ...

    async def all_have_ended() -> bool:
        return len(ended) == 3

    for _ in range(2):
        assert not await has_a_turn(hangs_for_long)
        assert await has_a_turn(has_its_turn)
    assert not await has_a_turn(hangs_for_long)
    assert not await has_a_turn(waits_for_its_turn)

    release.set()
    await eventually_async(all_have_ended)
    await eventually_async(lambda: has_a_turn(waits_for_its_turn))

    # Nobody has a place too many now.
    release.clear()
    async with asyncio.TaskGroup() as requests:
        for _ in range(THREADS):
            requests.create_task(run_calls([prepare(takes_its_time)]))
        await asyncio.sleep(0)  # They start.
        assert not await has_a_turn(waits_for_its_turn)
        release.set()


def test_thread_that_outlives_its_event_loop_takes_no_place_in_the_next() -> None:
    release = threading.Event()

    @nice_to_have(time_limit=0.01)
    def outlives_the_loop() -> None:
        release.wait(WITHIN_SECONDS)

    @nice_to_have
    def has_a_place() -> None: ...

    for _ in range(THREADS):
        run_after_a_response(outlives_the_loop)
    run_after_a_response(has_a_place)
    release.set()
    assert count("has_a_place", "succeeded") == 1


async def test_def_tasks_have_few_threads_and_none_of_the_routes() -> None:
    release = threading.Event()
    lock = threading.Lock()
    running: list[int] = [0]
    used: set[threading.Thread] = set()

    @nice_to_have
    def blocks() -> None:
        with lock:
            running.append(running[-1] + 1)
            used.add(threading.current_thread())
        release.wait(WITHIN_SECONDS)
        with lock:
            running.append(running[-1] - 1)

    api = FastAPI()

    @api.post("/tasks")
    async def enqueue(tasks: Tasks) -> None:
        await tasks.enqueue(blocks)

    @api.get("/route")
    def route() -> str:
        return "answered"

    async def all_threads_are_taken() -> bool:
        return running[-1] == THREADS

    transport = httpx2.ASGITransport(api)
    async with (
        httpx2.AsyncClient(transport=transport, base_url="http://service") as client,
        asyncio.TaskGroup() as requests,
    ):
        try:
            for _ in range(50):  # more than the threads of `def` routes
                requests.create_task(client.post("/tasks"))
            await eventually_async(all_threads_are_taken)
            async with asyncio.timeout(WITHIN_SECONDS / 2):
                assert (await client.get("/route")).json() == "answered"
        finally:
            release.set()
    assert max(running) == THREADS
    assert running[-1] == 0
    assert len(used) <= THREADS + OVERDUE  # They are used again.
    assert count("blocks", "succeeded") == 50


def test_what_cannot_run_is_refused_by_enqueue() -> None:
    @nice_to_have
    async def takes_a_number(number: int) -> None: ...

    async def no_task() -> None: ...

    api = FastAPI()

    @api.post("/wrong-arguments")
    async def enqueue_wrong_arguments(tasks: Tasks) -> None:
        wrong: Any = takes_a_number
        await tasks.enqueue(wrong, 1, 2)

    @api.post("/no-task")
    async def enqueue_no_task(tasks: Tasks) -> None:
        wrong: Any = no_task
        await tasks.enqueue(wrong)

    client = TestClient(api)
    with pytest.raises(TypeError, match="too many positional arguments"):
        client.post("/wrong-arguments")
    with pytest.raises(
        TypeError, match="no_task is not a task: declare it with @nice_to_have"
    ):
        client.post("/no-task")


@pytest.mark.parametrize(
    "options",
    [
        {"max_attempts": 0},
        {"max_attempts": 10_001},
        {"time_limit": 0},
        {"time_limit": math.inf},
        {"time_limit": math.nan},
    ],
    ids=str,
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    def task() -> None: ...

    with pytest.raises(ValueError, match=rf"{next(iter(options))}\n"):
        nice_to_have(**options)(task)


def test_misspelt_options_are_refused() -> None:
    with pytest.raises(TypeError, match="'max_atempts'"):
        nice_to_have(max_atempts=3)  # type: ignore[call-overload]
