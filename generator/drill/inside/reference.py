"""Run a reference: wait for and expect what there is without a ledger."""

import time

from .control import left
from .run import Run

QUIET_SECONDS = 15.0
"""Longer than any task of the drill runs, or pauses before another attempt."""

AGAIN_SECONDS = 60.0
PROBE_SECONDS = 3.0


class ReferenceRun(Run):
    """A running reference."""

    has_ledger = False
    path = "/orders"

    def warm_up(self) -> bool:
        """Do as any run does; a reference that never works is a defect of the drill.

        Raises AssertionError then.
        """
        assert super().warm_up(), "no task has gone the whole way before the fault"
        return True

    def expect(self, kept: object, otherwise: str) -> None:
        """Note what would break a promise: a reference has made none."""
        if not kept:
            self.notes.append(otherwise)

    def wait_until_running_again(self) -> None:
        """Wait, not for ever, until the service runs tasks again.

        It may lose some of them.
        """
        self.say("waiting until tasks run again")
        deadline = time.monotonic() + AGAIN_SECONDS
        while time.monotonic() < deadline:
            if self.wait_until_started(self.traffic.send(), within=PROBE_SECONDS):
                return

    def settle(self, why: str = "settling") -> bool:
        """Wait until every order has its effect, or will not have it any more.

        That is when there was no effect for longer than any task takes, and the broker
        has nothing left, or has not delivered that for as long as we wait for this
        engine at these settings.
        """
        last, since = -1, time.monotonic()
        while missing := self._missing():
            self.say(f"{why}: {missing} left")
            if missing != last:
                last, since = missing, time.monotonic()

            quiet = time.monotonic() - since
            if quiet > QUIET_SECONDS and (
                quiet > self.order.patience or not self.left_in_broker()
            ):
                return False

            # To ask RabbitMQ costs it a second.
            time.sleep(0.2 if quiet < QUIET_SECONDS else 2)
        return True

    def left_in_broker(self) -> int:
        """Return how many messages the broker still has."""
        return left(self.broker) if self.servers.broker is not None else 0

    def _missing(self) -> int:
        query = """SELECT count(*) FROM drill_requests
            WHERE task_id NOT IN (SELECT task_id FROM drill_effects)"""
        [(number,)] = self.rows(query)
        return int(number)
