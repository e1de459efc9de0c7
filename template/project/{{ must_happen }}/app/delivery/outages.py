"""Report an outage when it begins, each minute while it lasts, and when it is over."""

import logging
import math
import time

logger = logging.getLogger(__name__)

REPORT_SECONDS = 60.0


class Outage:
    """Something that fails again and again, and what is said about it."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._began_at: float | None = None
        self._report_at = 0.0

    def go_on(self, error: BaseException) -> None:
        """Take note of a failure."""
        now = time.monotonic()
        if self._began_at is None:
            self._began_at = self._report_at = now
        if now >= self._report_at:
            self._report_at += REPORT_SECONDS
            logger.error("%s, trying on: %r", self._what, error)

    def end(self, asked_at: float = math.inf) -> None:
        """Take note of a success, if it was asked for after the outage had begun."""
        if self._began_at is not None and asked_at > self._began_at:
            seconds = time.monotonic() - self._began_at
            logger.warning("%s: over after %.0f s", self._what, seconds)
            self._began_at = None
