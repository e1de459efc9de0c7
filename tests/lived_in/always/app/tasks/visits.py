"""Count what happens in the shop; a count that is lost is a pity."""

import logging
from collections import Counter

from app.delivery import nice_to_have
from app.settings import settings

logger = logging.getLogger(__name__)

FAVOURITE = "bücher"
visits: Counter[str] = Counter()


@nice_to_have
async def note_visit(page: str) -> None:
    """Count a visit of a page."""
    visits[page] += 1
    logger.info("%s was visited, says %s", page, settings.shop_name)
