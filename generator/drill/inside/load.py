"""Send requests as clients do, who try again, and remember each answer."""

import http.client
import json
import random
import threading
import time
from typing import Any, NamedTuple
from uuid import UUID

SENDERS = 8
RETRY_SECONDS = 0.25
GIVE_UP_SECONDS = 120.0
IDLE_SECONDS = 2.0
ACCEPTED = 202


class Request(NamedTuple):
    """One request and its answer."""

    at: float
    seconds: float
    ok: bool


class Load:
    """The clients: a request that got no 2xx is sent again, as another request."""

    def __init__(self, port: int, path: str, seed: int) -> None:
        self._port = port
        self._path = path
        self._random = random.Random(seed)  # noqa: S311 - a load, no secret
        self._lock = threading.Lock()
        self._local = threading.local()
        self._senders: list[threading.Thread] = []

        self.requests: list[Request] = []
        self.answered: list[UUID] = []
        self.failing: set[UUID] = set()
        """Those of them that are told to fail."""
        self.planned = 0
        self._before = 0

    def begin(self, tasks: int, seconds: float) -> None:
        """Start to send so many tasks, evenly over so many seconds."""
        begun = time.monotonic()
        schedule = [
            (begun + seconds * number / tasks, self._work()) for number in range(tasks)
        ]

        schedule.reverse()
        self._before, self.planned = len(self.answered), tasks

        self._senders = [
            threading.Thread(target=self._send_all, args=[schedule], daemon=True)
            for _ in range(SENDERS)
        ]
        for sender in self._senders:
            sender.start()

    def wait(self) -> None:
        """Wait until everything is sent."""
        for sender in self._senders:
            sender.join()

    @property
    def sent(self) -> float:
        """The share of the planned tasks that was accepted."""
        return (len(self.answered) - self._before) / max(self.planned, 1)

    @property
    def is_sending(self) -> bool:
        """Whether some sender still has something to send."""
        return any(sender.is_alive() for sender in self._senders)

    def send(self, **work: str | float) -> UUID:
        """Send one task until it is accepted, and return its id."""
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while (task_id := self._post(work)) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"no request was accepted for {GIVE_UP_SECONDS:.0f} s"
                )
            time.sleep(RETRY_SECONDS)
        return task_id

    def forget_times(self) -> None:
        """Leave out of the measurement what was sent until now."""
        self.requests.clear()

    def _work(self) -> dict[str, Any]:
        chance = self._random.random()
        if chance < 0.1:  # noqa: PLR2004
            return {"failures": 1}
        if chance < 0.15:  # noqa: PLR2004
            return {"delay": self._random.uniform(0.5, 2)}
        return {"seconds": self._random.uniform(0, 0.01)}

    def _send_all(self, schedule: list[tuple[float, dict[str, Any]]]) -> None:
        while True:
            with self._lock:
                if not schedule:
                    return
                due, work = schedule.pop()
            time.sleep(max(0, due - time.monotonic()))
            try:
                self.send(**work)
            except TimeoutError:
                return

    def _connection(self) -> http.client.HTTPConnection:
        """Return this thread's connection.

        The server closes one that is idle for five seconds.
        """
        connection: http.client.HTTPConnection | None = getattr(
            self._local, "connection", None
        )
        if connection is None or time.monotonic() - self._local.used > IDLE_SECONDS:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
            self._local.connection = connection
        self._local.used = time.monotonic()
        return connection

    def _post(self, work: dict[str, Any]) -> UUID | None:
        connection = self._connection()
        at, begun = time.time(), time.perf_counter()

        task_id = None
        try:
            connection.request(
                "POST",
                self._path,
                json.dumps(work),
                {"Content-Type": "application/json"},
            )
            response = connection.getresponse()
            body = response.read()
            if response.status == ACCEPTED:
                task_id = UUID(json.loads(body)["id"])
        except (OSError, http.client.HTTPException):
            connection.close()

        with self._lock:
            self.requests.append(
                Request(at, time.perf_counter() - begun, task_id is not None)
            )
            if task_id is not None:
                self.answered.append(task_id)
                if work.get("failures"):
                    self.failing.add(task_id)
        return task_id
