"""Let the API of a reference die between commit and enqueue, if it is armed to."""

from services import orders
from services.api import app
from services.drill_points import die_if_armed

__all__ = ["app"]

_record_order = orders.record_order


async def _record_order_and_die() -> str:
    order_id = await _record_order()
    die_if_armed("committed")
    return order_id


orders.record_order = _record_order_and_die
