"""Charge orders and send their receipts; losing one of these would lose money."""

import logging
from uuid import UUID

from app.delivery import TaskContext, must_happen
from app.models import Order, Payment

logger = logging.getLogger(__name__)


@must_happen(max_attempts=8, queue="payments")
async def charge_card(task: TaskContext, order_id: UUID) -> UUID:
    """Charge an order.

    Its payment and the task of its receipt commit together with this success.
    """
    order = await task.session.get_one(Order, order_id)
    payment = Payment(order_id=order.id, amount=order.amount)
    task.session.add(payment)
    await task.session.flush()

    await task.enqueue(send_receipt, order.id, order.email)
    return payment.id


@must_happen
async def send_receipt(task: TaskContext, order_id: UUID, email: str) -> None:
    """Send the receipt of an order.

    An effect elsewhere may be tried more than once. A mail provider or payment API that
    is given the task's id as its idempotency key does it once; put its call here.
    """
    logger.info(
        "receipt of order %s to %s, idempotency key %s", order_id, email, task.id
    )
