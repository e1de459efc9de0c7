"""Greet and count those who sign up; losing one of these is a pity, not a disaster."""

import logging

from app.delivery import nice_to_have

logger = logging.getLogger(__name__)


@nice_to_have(max_attempts=3)
async def send_welcome_email(email: str) -> None:
    """Welcome a new reader. An `async def` task runs on the event loop."""
    logger.info("welcome, %s", email)


@nice_to_have
def add_to_newsletter(email: str) -> None:
    """Subscribe a new reader. A `def` task runs in a thread of its own."""
    logger.info("subscribed %s to the newsletter", email)


@nice_to_have(time_limit=5)
async def count_visit(path: str) -> None:
    """Count a visit for the statistics."""
    logger.info("counted a visit of %s", path)
