"""Run an engine without a ledger, at its safest settings, on a variant's broker."""

import time

from benchmarks.lab import REFERENCES, Lab, Project
from benchmarks.meter import Meter, Taken
from benchmarks.processes import Process, measure
from benchmarks.stamps import Stamps, rate
from generator.services import eventually

# As the generated Procfile runs its own.
_WORKERS = {
    "celery": "exec celery --app {} worker --concurrency 4 --loglevel WARNING"
    " --without-mingle --without-gossip",
    "arq": "exec arq {}.WorkerSettings",
    "dramatiq": "exec dramatiq {}:broker --processes 2 --threads 16",
}


class Bare:
    """The variant's engine without a ledger, on the same broker."""

    def __init__(self, lab: Lab, project: Project, stamps: Stamps, number: int) -> None:
        self._project = project
        self._stamps = stamps
        self._number = number
        self._module = project.variant.name.replace("-", "_")
        self._meter = Meter(stamps, lab.postgresql)
        broker = lab.broker(project.variant.name)
        self._settings = {"BROKER_URL": broker.url, **stamps.settings}

        worker = self.start_worker()  # Declares its queue.
        try:
            self.warm_up(worker)
        finally:
            worker.stop()

    def publish(self, number: int, gap: float = 0) -> list[float]:
        """Publish tasks one after the other, and return when."""
        program = str(REFERENCES / f"{self._module}.py")
        command = [self._project.python, program, str(number), str(gap)]
        environment = self._project.environment(**self._settings)
        sent: list[float] = measure(command, self._project.folder, environment)
        return sent

    def start_worker(self) -> Process:
        """Start its worker."""
        command = _WORKERS[self._project.engine].format(self._module)
        return self._project.start_command(command, "bare", **self._settings)

    def warm_up(self, worker: Process) -> None:
        """Let the worker run a few tasks."""
        self._stamps.clear()
        eventually(lambda: self._runs(worker), "the bare worker runs tasks")
        time.sleep(0.5)  # All that were published until now have run.
        self._stamps.clear()

    def backlog(self) -> Taken:
        """Let a worker run what waits in the broker."""
        self._stamps.clear()
        self.publish(self._number)

        worker = self.start_worker()
        try:
            return self._meter.watch(
                [worker], lambda: rate(sorted(self._stamps.read()))
            )
        finally:
            worker.stop()

    def stream(self) -> float:
        """Return the tasks a second from the first publish to the last end."""
        worker = self.start_worker()
        try:
            self.warm_up(worker)
            sent = self.publish(self._number)
            return self._number / (self._stamps.wait(worker.check)[-1] - sent[0])
        finally:
            worker.stop()

    def _runs(self, worker: Process) -> bool:
        worker.check()
        self.publish(1)
        return bool(self._stamps.read()[0])
