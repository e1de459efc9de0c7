"""Take orders; each is charged and receipted by tasks that must happen."""

from decimal import Decimal
from typing import Annotated
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

from fastapi import APIRouter, Header, HTTPException, Response
from pydantic import BaseModel, EmailStr, Field
from sqlalchemy import exists, select

from app.dependencies import Session, Tasks
from app.models import Order, Payment
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
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=200)] = None,
) -> Accepted:
    """Record an order and the task that charges it, in one transaction.

    A request that repeats an `Idempotency-Key` is answered like the first and changes
    nothing, or refused when the first one's task is past its retention.
    """
    order_id = uuid4()
    if idempotency_key:
        order_id = uuid5(NAMESPACE_URL, f"orders/{idempotency_key}")

    charge = await tasks.enqueue(charge_card.using(key=str(order_id)), order_id)
    if charge.created:
        if idempotency_key and await session.get(Order, order_id) is not None:
            raise HTTPException(409, "this Idempotency-Key was used long ago")
        session.add(Order(id=order_id, email=order.email, amount=order.amount))
    else:
        first = await session.get_one(Order, order_id)
        if (first.email, first.amount) != (order.email, order.amount):
            raise HTTPException(422, "this Idempotency-Key was used for another order")

    response.headers["Location"] = f"/tasks/{charge.id}"
    return Accepted(order_id=order_id, task_id=charge.id)


@router.get("/{order_id}")
async def get_order(order_id: UUID, session: Session) -> OrderOut:
    """Return an order."""
    order = await session.get(Order, order_id)
    if order is None:
        raise HTTPException(404, "no such order")

    paid = await session.scalar(select(exists().where(Payment.order_id == order_id)))
    return OrderOut(
        id=order.id, email=order.email, amount=order.amount, paid=bool(paid)
    )
