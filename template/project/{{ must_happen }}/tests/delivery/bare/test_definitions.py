"""What the declaration of a must-happen task accepts, and what it records."""

import asyncio
import math
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi import BackgroundTasks, FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel, ValidationError
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.background import BackgroundTasks as StarletteBackgroundTasks

from app.delivery import TaskContext, must_happen
from app.delivery.definitions import must_happen_tasks, queues
from tests.delivery.support.processes import ROOT, run
from tests.delivery.support.reaper import Reaper


async def takes_a_session(session: AsyncSession) -> None: ...


async def takes_a_function(callback: Callable[[int], None]) -> None: ...


async def takes_anything(order_id) -> None: ...  # type: ignore[no-untyped-def]


async def takes_more(*orders: int) -> None: ...


async def takes_options(**options: int) -> None: ...


async def takes_by_position(order: int, /) -> None: ...


async def takes_the_context_last(order: int, task: TaskContext) -> None: ...


async def returns_a_session() -> AsyncSession:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("function", "culprit"),
    [
        (takes_a_session, "session"),
        (takes_a_function, "callback"),
        (takes_anything, "order_id"),
        (takes_more, "orders"),
        (takes_options, "options"),
        (takes_by_position, "order"),
        (takes_the_context_last, "task"),
        (returns_a_session, "its result"),
    ],
)
def test_what_the_ledger_cannot_hold_is_refused(
    function: Callable[..., object], culprit: str
) -> None:
    with pytest.raises(TypeError, match=rf"{function.__name__}: .*{culprit}"):
        must_happen(function)
    assert function.__name__ not in must_happen_tasks()


def test_second_task_of_a_name_is_refused() -> None:
    def declare() -> None:
        @must_happen
        async def send_invoice() -> None: ...

    declare()
    with pytest.raises(
        ValueError, match=r"two tasks are named send_invoice.*test_definitions"
    ):
        declare()


@pytest.mark.parametrize(
    "options",
    [
        {"max_attempts": 0},
        {"max_attempts": 10_001},
        {"time_limit": 0},
        {"time_limit": math.nan},
        {"time_limit": math.inf},
        {"time_limit": 604_801},
        {"retry_delay": -1},
        {"retry_delay": math.nan},
        {"retry_delay": 3601},
        {"priority": -1},
        {"priority": 10},
        {"queue": "Mixed Case"},
        {"queue": "q" * 101},
    ],
    ids=str,
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    async def task() -> None: ...

    with pytest.raises(ValueError, match=rf"{next(iter(options))}\n"):
        must_happen(**options)(task)


def test_name_that_no_column_holds_is_refused() -> None:
    async def task() -> None: ...

    task.__name__ = "t" * 201
    with pytest.raises(ValueError, match=r"name\n"):
        must_happen(task)
    task.__name__ = "t" * 200
    assert must_happen(task).name in must_happen_tasks()


MOMENT = datetime(2100, 1, 1, tzinfo=UTC)
WEST = timezone(timedelta(hours=-12))


@pytest.mark.parametrize(
    "options",
    [
        {"at": MOMENT.replace(tzinfo=None)},
        {"at": datetime.max.replace(tzinfo=UTC)},
        {"at": datetime(9998, 12, 31, 23, tzinfo=WEST)},
        {"at": datetime.min.replace(tzinfo=UTC)},
        {"delay": timedelta(seconds=-1)},
        {"delay": timedelta(days=3651)},
        {"delay": timedelta.max},
        {"key": ""},
        {"key": "k" * 201},
        {"key": "a\x00b"},
        {"key": "\ud800"},
        {"priority": 10},
        {"priority": -1},
    ],
    ids=ascii,
)
def test_impossible_options_of_one_enqueue_are_refused(options: Any) -> None:
    @must_happen
    async def task() -> None: ...

    with pytest.raises(ValueError, match=rf"{next(iter(options))}\n"):
        task.using(**options)


def test_queue_that_no_task_declares_is_refused() -> None:
    @must_happen
    async def task() -> None: ...

    with pytest.raises(ValueError, match="no task declares the queue 'nowhere'"):
        task.using(queue="nowhere")


def test_misspelt_options_are_refused() -> None:
    @must_happen
    async def task() -> None: ...

    with pytest.raises(TypeError, match="'max_atempts'"):
        must_happen(max_atempts=9)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="'prioritty'"):
        task.using(prioritty=3)  # type: ignore[call-arg]
    # An option of the other kind.
    with pytest.raises(TypeError, match="'delay'"):
        must_happen(delay=timedelta(1))  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="'max_attempts'"):
        task.using(max_attempts=3)  # type: ignore[call-arg]


def test_queues_are_those_that_tasks_declare() -> None:
    @must_happen(queue="invoices")
    async def invoice() -> None: ...

    @must_happen
    async def other() -> None: ...

    assert {"default", "invoices"} <= queues()
    assert other.using(queue="invoices").queue == "invoices"
    assert other.queue == "default"


class Address(BaseModel):
    street: str
    since: datetime


@dataclass
class Line:
    amount: Decimal
    picture: bytes


async def takes_much(
    order: UUID,
    at: datetime,
    amount: Decimal,
    address: Address,
    lines: list[Line],
    *,
    picture: bytes,
    numbers: tuple[float, ...],
    note: str | None = None,
    tags: frozenset[str] = frozenset({"new"}),
) -> None: ...


def test_arguments_survive_being_recorded() -> None:
    task = must_happen(takes_much)
    moment = datetime(2026, 11, 22, 12, 30, tzinfo=UTC)
    line = Line(Decimal("0.10"), b"\x00\xff")
    given: dict[str, Any] = {
        "order": uuid4(),
        "at": moment,
        "amount": Decimal("12345678901234567890.123456789"),
        "address": Address(street="Straße 1 \U0001f600", since=moment),
        "lines": [line, line],
        "picture": bytes(range(256)),
        "numbers": (math.inf, -math.inf, 0.1),
    }
    defaults = {"note": None, "tags": frozenset({"new"})}
    assert task.load_arguments(task.dump_arguments(**given)) == given | defaults

    by_position = [
        given.pop(name) for name in ("order", "at", "amount", "address", "lines")
    ]
    recorded = task.dump_arguments(*by_position, **given, note="x")
    assert list(task.load_arguments(recorded).values())[:5] == by_position
    assert task.load_arguments(recorded)["note"] == "x"


def test_not_a_number_survives_being_recorded() -> None:
    @must_happen
    async def measure(number: float) -> None: ...

    assert math.isnan(
        measure.load_arguments(measure.dump_arguments(math.nan))["number"]
    )


def test_results_are_recorded_as_arguments_are() -> None:
    @must_happen
    async def picture() -> bytes:
        return b""

    @must_happen
    async def number() -> float:
        return 0

    assert picture.dump_result(b"\x00\xff") == '"AP8="'
    assert number.dump_result(math.inf) == '"Infinity"'


def test_arguments_are_recorded_with_the_defaults_of_their_time() -> None:
    @must_happen
    async def remind(days: int = 7) -> None: ...

    assert remind.dump_arguments() == '{"days":7}'


def test_arguments_of_another_release_are_read() -> None:
    @must_happen
    async def ship(order: int, express: bool = False) -> None: ...

    recorded = '{"order": 1, "colour": "red"}'
    assert ship.load_arguments(recorded) == {"order": 1, "express": False}


def test_arguments_are_validated() -> None:
    @must_happen
    async def ship(order: int) -> None: ...

    with pytest.raises(ValidationError, match="order"):
        ship.dump_arguments("first")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="missing a required argument: 'order'"):
        ship.dump_arguments()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="too many positional arguments"):
        ship.dump_arguments(1, 2)  # type: ignore[call-arg]


def test_the_context_is_no_argument() -> None:
    @must_happen
    async def ship(task: TaskContext, order: int) -> None: ...

    assert ship.takes_context
    assert ship.dump_arguments(1) == '{"order":1}'


WAY_OUT = r"write: await tasks\.enqueue\(settle_invoice, \.\.\.\)"


def test_task_cannot_be_called_or_lost_in_background_tasks() -> None:
    @must_happen
    async def settle_invoice(order: int) -> None: ...

    with pytest.raises(TypeError, match=WAY_OUT):
        settle_invoice(1)  # type: ignore[operator]
    with pytest.raises(TypeError, match=WAY_OUT):
        asyncio.run(settle_invoice(1))  # type: ignore[operator]
    for kind in (BackgroundTasks, StarletteBackgroundTasks):
        background_tasks = kind()
        with pytest.raises(TypeError, match=WAY_OUT):
            background_tasks.add_task(settle_invoice, 1)  # type: ignore[arg-type]
        assert not background_tasks.tasks


def test_route_that_adds_a_task_to_background_tasks_fails_at_once() -> None:
    @must_happen
    async def settle_invoice(order: int) -> None: ...

    api = FastAPI()

    @api.post("/")
    async def route(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(settle_invoice, 1)  # type: ignore[arg-type]

    with pytest.raises(TypeError, match=WAY_OUT):
        TestClient(api).post("/")


def test_new_modules_of_tasks_are_found(tmp_path: Path, reaper: Reaper) -> None:
    shutil.copytree(ROOT / "app", tmp_path / "app")
    package = tmp_path / "app" / "tasks" / "found"
    package.mkdir()
    declaration = (
        "from app.delivery import must_happen\n\n@must_happen\ndef {}() -> None: ...\n"
    )
    (package / "__init__.py").write_text("")
    (package / "deep.py").write_text(declaration.format("found_in_a_package"))
    (package.parent / "new.py").write_text(declaration.format("found_in_a_module"))
    code = (
        "import sys; sys.path.insert(0, '.'); "
        "from app.delivery.definitions import must_happen_tasks; "
        "print(*must_happen_tasks())"
    )

    done = run(sys.executable, "-c", code, folder=tmp_path, reaper=reaper)
    assert {"found_in_a_module", "found_in_a_package"} <= set(done.stdout.split()), (
        done.stderr
    )
