"""What is recorded of arguments and results loads as it was, or is refused."""

import math
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr, computed_field
from pydantic.alias_generators import to_camel

from app.delivery import must_happen
from app.delivery.definitions import must_happen_tasks


class Event(BaseModel):
    name: str = ""


class OrderEvent(Event):
    order: int = 0


class Invoice(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)

    amount_due: Decimal = Decimal(0)
    order_id: int
    token: SecretStr | None = None
    event: Event = Event()
    hidden: int = Field(0, exclude=True)
    rates: list[float | None] = []
    _note: str = ""

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def twice(self) -> Decimal:
        return self.amount_due * 2

    def noted(self) -> "Invoice":
        self._note = "changed"
        return self


def invoice(**fields: Any) -> Invoice:
    """Return an invoice as a route gets it from a body."""
    return Invoice.model_validate({"orderId": 7, **fields})


def test_models_with_aliases_and_computed_fields_survive_being_recorded() -> None:
    @must_happen
    async def send(document: Invoice) -> Invoice:
        return document

    given = invoice(amountDue="99.50", rates=[0.5, None])
    assert given.twice == 199
    recorded = send.dump_arguments(given)
    loaded = send.load_arguments(recorded)["document"]
    assert (loaded, loaded.amount_due) == (given, Decimal("99.50"))
    assert send.dump_result(given) in recorded
    # What an earlier release recorded by the alias fits as well.
    loaded = send.load_arguments('{"document": {"orderId": 8}}')["document"]
    assert loaded.order_id == 8


@pytest.mark.parametrize(
    ("annotation", "given", "path"),
    [
        (Invoice, invoice(token="x"), "token"),  # noqa: S106 - no secret
        (Invoice, invoice(event=OrderEvent(order=1)), "event"),
        (Invoice, invoice(hidden=1), "hidden"),
        (Invoice, invoice(rates=[0.5, math.nan]), "rates.1"),
        (Invoice, invoice().noted(), "__pydantic_private__"),
        (Invoice, Invoice.model_construct(order_id=[]), "order_id"),
        (dict[str, Any], {"order": {"id": UUID(int=1)}}, "order.id"),
        (Sequence[int], (1, 2), ""),
        (UUID | str, str(UUID(int=1)), ""),
        (list[str], ["\ud800"], ""),
    ],
    ids=ascii,
)
def test_what_would_change_is_refused(annotation: Any, given: Any, path: str) -> None:
    async def send(first: int, argument: object) -> object: ...

    send.__annotations__ |= {"argument": annotation, "return": annotation}
    task = must_happen(send)

    with pytest.raises(ValueError, match=r"^send: argument.*argument") as refused:
        task.dump_arguments(1, given)
    assert path in str(refused.value).replace("', '", ".")
    with pytest.raises(ValueError, match=r"^send: its result") as refused:
        task.dump_result(given)
    assert path in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_would_always_change_is_refused_where_it_is_declared() -> None:
    async def pay(card: SecretStr) -> None: ...

    async def ship(orders: Sequence[int] = ()) -> None: ...

    with pytest.raises(TypeError, match=r"^pay: card would be recorded masked"):
        must_happen(pay)
    with pytest.raises(ValueError, match=r"^ship: orders would change"):
        must_happen(ship)
    assert not {"pay", "ship"} & must_happen_tasks().keys()


def test_what_the_driver_of_a_database_returns_is_recorded() -> None:
    @must_happen
    async def charge(order_id: UUID, others: list[UUID]) -> UUID:
        return order_id

    # A subclass, which every query on PostgreSQL returns.
    order_id = asyncpg.pgproto.pgproto.UUID("01a22742-29d4-75f5-9384-feb37109fc38")
    recorded = charge.dump_arguments(order_id, [order_id])
    loaded = charge.load_arguments(recorded)
    assert loaded == {"order_id": order_id, "others": [order_id]}
    assert type(loaded["order_id"]) is UUID
    assert charge.dump_result(order_id) == f'"{order_id}"'


def test_moments_keep_their_offset() -> None:
    @must_happen
    async def remind(at: datetime) -> None: ...

    in_summer = datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))
    loaded = remind.load_arguments(remind.dump_arguments(in_summer))["at"]
    assert loaded.isoformat() == "2026-07-01T12:00:00+02:00"
    # Local mean time, whose seconds are not recorded.
    with pytest.raises(ValueError, match="at would change"):
        remind.dump_arguments(in_summer.replace(year=1850))
