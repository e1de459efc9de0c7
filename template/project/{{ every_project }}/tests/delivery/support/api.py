"""Run the API as a process of its own: what a signal does to it cannot be imitated."""

from pathlib import Path

import httpx2

from tests.delivery.support.processes import (
    ROOT,
    Process,
    environment,
    free_port,
    read_procfile,
)
from tests.delivery.support.reaper import Reaper
from tests.delivery.support.waiting import WITHIN_SECONDS, eventually

GRACE_PERIOD = "--timeout-graceful-shutdown 30"


class Api(Process):
    """The `api` line of the `Procfile`, run in a folder without a `.env`."""

    def __init__(
        self,
        application: str,
        folder: Path,
        reaper: Reaper,
        *,
        grace_seconds: int = 30,
        **settings: str,
    ) -> None:
        port = free_port()
        command = read_procfile(ROOT / "Procfile")["api"]
        for old, new in (
            ("app.main:app", application),
            ("0.0.0.0", "127.0.0.1"),  # noqa: S104 -- replaced
            (GRACE_PERIOD, f"--timeout-graceful-shutdown {grace_seconds}"),
        ):
            assert old in command
            command = command.replace(old, new)

        super().__init__(
            "api", command, folder, environment(PORT=str(port), **settings), reaper
        )
        self.http = httpx2.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=WITHIN_SECONDS
        )

    def start(self) -> None:
        """Start it and wait until it answers."""
        super().start()
        try:
            eventually(self._answers, what="the API answers /readyz with 200")
        except BaseException:
            self.stop()
            raise

    def ask_to_end(self) -> None:
        """SIGTERM it, and wait until it takes no new requests."""
        super().ask_to_end()
        eventually(lambda: not self._accepts(), what="the API takes no new requests")

    def close(self) -> None:
        """Leave nothing behind."""
        self.http.close()
        self.stop()

    def _accepts(self) -> bool:
        # On a new connection: the client's may be kept until they are closed.
        try:
            httpx2.get(self.http.base_url.join("/livez"), timeout=WITHIN_SECONDS)
        except httpx2.TransportError:
            return False
        return True

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log()
        try:
            return self.http.get("/readyz").status_code == 200
        except httpx2.TransportError:
            return False
