"""Run the whole service as in production: all of its processes and servers."""

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import httpx2

from tests.delivery.support.database import Database
from tests.delivery.support.parts import PROCESSES, WAITING, Parts
from tests.delivery.support.processes import free_port
from tests.delivery.support.project import Project
from tests.delivery.support.reaper import Reaper
from tests.delivery.support.servers import Server
from tests.delivery.support.supervised import Supervised
from tests.delivery.support.waiting import WITHIN_SECONDS, eventually

LEASE_SECONDS = 5.0
"""Long enough for a worker on a busy machine to renew it in time."""


class Service(Parts):
    """The running service, and what the tests ask of it."""

    def __init__(
        self,
        project: Project,
        database: Database,
        servers: Mapping[str, Server],
        reaper: Reaper,
        **settings: str,
    ) -> None:
        self.project = project
        self.database = database
        self.servers = servers
        self.postgresql = servers["postgresql"]
        self.reaper = reaper

        port = free_port()
        self.operator_token = secrets.token_urlsafe()
        self.environment = {
            "DATABASE_URL": database.url,
            "OPERATOR_TOKEN": self.operator_token,
            "LEASE_SECONDS": str(LEASE_SECONDS),
            "PORT": str(port),
            **self.settings,
            **settings,
        }

        self.http = httpx2.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=WITHIN_SECONDS
        )
        self.operator = httpx2.Client(
            base_url=f"http://127.0.0.1:{port}",
            timeout=WITHIN_SECONDS,
            headers={"Authorization": f"Bearer {self.operator_token}"},
        )

        self.extras: list[Supervised] = []
        self.processes = {name: self._run(name) for name in PROCESSES}
        self.api, self.worker = self.processes["api"], self.processes["worker"]

    def run_extra(self, process_type: str, command: str | None = None) -> Supervised:
        """Run a second process of a type until the end of the test."""
        suffix = f"-{len(self.extras) + 2}"
        process = self._run(process_type, suffix, command)
        self.extras.append(process)
        return process

    def wait_until_ready(self) -> None:
        """Wait until the API answers and a task goes the whole way."""
        eventually(self.answers, what="the API answers /readyz with 200")
        self.wait_for(self.enqueue("probe"))

    def answers(self) -> bool:
        """Whether /readyz answers with 200."""
        try:
            return self.http.get("/readyz").status_code == 200
        except httpx2.TransportError:
            return False

    def enqueue(
        self, name: str, *, options: dict[str, Any] | None = None, **arguments: Any
    ) -> UUID:
        """Enqueue a task through HTTP, in the transaction of a request."""
        response = self.http.post(
            "/probes",
            json={"name": name, "arguments": arguments, "options": options or {}},
        )
        assert response.status_code == 202, response.text
        return UUID(response.json()["id"])

    def task(self, task_id: UUID) -> dict[str, Any]:
        """What `GET /tasks/{id}` shows to an operator."""
        response = self.operator.get(f"/tasks/{task_id}")
        assert response.status_code == 200, response.text
        shown: dict[str, Any] = response.json()
        return shown

    def wait_for(self, task_id: UUID, status: str = "succeeded") -> None:
        """Wait until the ledger says that the task has this status."""
        eventually(
            lambda: self._status(task_id) == status, what=f"task {task_id} is {status}"
        )

    def wait_until_started(self, task_id: UUID, attempt: int = 1) -> int:
        """Wait until this attempt has started, and return the process that runs it."""
        statement = (
            "SELECT pid FROM probe_starts WHERE task_id = :id AND attempt = :attempt"
        )
        [(pid,)] = eventually(
            lambda: self.database.rows(statement, id=task_id, attempt=attempt),
            what=f"attempt {attempt} of task {task_id} starts",
        )
        return int(pid)

    def wait_until_finished(self, *, within: float = WITHIN_SECONDS) -> dict[str, int]:
        """Wait until every recorded task is finished; count them by their status."""
        unfinished = "SELECT count(*) FROM tasks WHERE finished_at IS NULL"
        eventually(
            lambda: self.database.value(unfinished) == 0,
            within=within,
            what="every recorded task is finished",
            every=0.2,
        )

        rows = self.database.rows(
            "SELECT status, count(*) AS number FROM tasks GROUP BY status"
        )
        return {row.status: row.number for row in rows}

    def waiting(self) -> int:
        """How many tasks only wait for a worker, as far as the ledger knows."""
        number: int = self.database.value(
            f"SELECT count(*) FROM tasks WHERE {WAITING}"  # noqa: S608 -- our own
        )
        return number

    def open_transactions(self) -> int:
        """How many attempts have begun to have effects: their transactions are open."""
        waiting: int = self.database.value(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND state = 'idle in transaction'"
        )
        return waiting

    def effects(self, task_ids: Sequence[UUID]) -> dict[UUID, int]:
        """How many committed effects each of these tasks had."""
        rows = self.database.rows(
            "SELECT task_id, count(*) AS number FROM probe_effects GROUP BY task_id"
        )
        counts = {row.task_id: row.number for row in rows}
        return {task_id: counts.get(task_id, 0) for task_id in task_ids}

    def begin_test(self) -> None:
        """Forget earlier tests."""
        self.database.run(
            "DELETE FROM tasks", "TRUNCATE probe_starts, probe_effects, probe_requests"
        )
        for process in self.processes.values():
            process.begin_log()

    def log_tails(self) -> list[tuple[str, str]]:
        """The end of each process's log of this test."""
        time.sleep(0.5)  # what explains the failure may be about to be written
        processes = (*self.processes.values(), *self.extras)
        return [
            (f"{each.name} log", "\n".join(each.log_lines()[-40:]))
            for each in processes
        ]

    def mend(self) -> None:
        """Bring back what a test took away, and let its tasks end."""
        for server in self.servers.values():
            server.start()

        for process in self.extras:
            process.stop()
        self.extras.clear()
        for process in self.processes.values():
            process.resume()
            process.start()
        self.wait_until_ready()
        self.wait_until_finished()

    def restart(self) -> None:
        """Start afresh after a test that failed somewhere on its way."""
        self.stop()
        for server in self.servers.values():
            server.start()
        self.empty()
        self.database.run("DELETE FROM tasks")
        for process in self.processes.values():
            process.start()
        self.wait_until_ready()
        self.begin_test()

    def stop(self) -> None:
        """Kill all processes."""
        for process in (*self.extras, *self.processes.values()):
            process.stop()
        self.extras.clear()

    def _run(
        self, process_type: str, suffix: str = "", command: str | None = None
    ) -> Supervised:
        return Supervised(
            f"{process_type}{suffix}",
            command or self.project.commands[process_type],
            self.project.folder,
            self.environment,
            self.reaper,
        )

    def _status(self, task_id: UUID) -> str | None:
        rows = self.database.rows("SELECT status FROM tasks WHERE id = :id", id=task_id)
        return rows[0].status if rows else None
