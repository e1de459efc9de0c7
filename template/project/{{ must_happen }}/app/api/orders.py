"""Take orders; each is charged and receipted by tasks that must happen."""

from decimal import Decimal
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import APIRouter, Header, HTTPException, Response
from pydantic import BaseModel, EmailStr, Field
from sqlalchemy import exists, select
from sqlalchemy.exc import IntegrityError

from app.dependencies import Session, Tasks
from app.models import IdempotencyKey, Order, Payment
from app.tasks.orders import charge_card

router = APIRouter(prefix="/orders", tags=["orders"])


class OrderIn(BaseModel):
    """What a customer orders."""

    email: EmailStr
    amount: Annotated[Decimal, Field(gt=0, max_digits=12, decimal_places=2)]


class OrderOut(OrderIn):
    """An order and whether its card was charged."""

    id: UUID
    paid: bool


class Accepted(BaseModel):
    """What was recorded and will happen."""

    order_id: UUID
    task_id: UUID


@router.post("", status_code=202)
async def create_order(
    order: OrderIn,
    session: Session,
    tasks: Tasks,
    response: Response,
    idempotency_key: Annotated[
        str | None, Header(min_length=1, max_length=200, pattern=r"^[^\x00]*$")
    ] = None,
) -> Accepted:
    """Record an order and the task that charges it, in one transaction.

    A request that repeats a client's `Idempotency-Key` is answered like the first and
    changes nothing.
    """
    if idempotency_key is None:
        accepted = await _place(order, session, tasks)
    else:
        accepted = await _place_once(order, session, tasks, idempotency_key)

    response.headers["Location"] = f"/tasks/{accepted.task_id}"
    return accepted


async def _place(order: OrderIn, session: Session, tasks: Tasks) -> Accepted:
    placed = Order(id=uuid4(), email=order.email, amount=order.amount)
    session.add(placed)
    charge = await tasks.enqueue(charge_card, placed.id)
    return Accepted(order_id=placed.id, task_id=charge.id)


async def _place_once(
    order: OrderIn, session: Session, tasks: Tasks, idempotency_key: str
) -> Accepted:
    # Where clients log in, their account says who they are.
    key = {"client": order.email, "key": idempotency_key}
    try:
        # The key that another request has just used is waited for here.
        async with session.begin_nested():
            accepted = await _place(order, session, tasks)
            session.add(IdempotencyKey(**key, **accepted.model_dump()))
            return accepted
    except IntegrityError:
        first = await session.get_one(IdempotencyKey, key)

    if (await session.get_one(Order, first.order_id)).amount != order.amount:
        raise HTTPException(422, "this Idempotency-Key was used for another order")
    return Accepted(order_id=first.order_id, task_id=first.task_id)


@router.get("/{order_id}", responses={404: {"description": "No such order."}})
async def get_order(order_id: UUID, session: Session) -> OrderOut:
    """Return an order."""
    order = await session.get(Order, order_id)
    if order is None:
        raise HTTPException(404, "no such order")

    paid = await session.scalar(select(exists().where(Payment.order_id == order_id)))
    return OrderOut(
        id=order.id, email=order.email, amount=order.amount, paid=bool(paid)
    )
