"""Stand between the service and a server that the tests may not stop."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

Returned = TypeVar("Returned")


class Proxy:
    """Forwards 127.0.0.1:`port` to a server, until told otherwise."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._silent: list[asyncio.Event] = []
        self._connections: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._listener: asyncio.Server | None = None
        threading.Thread(
            target=self._loop.run_forever, name="proxy", daemon=True
        ).start()

        # Bound for good, not listening: while the proxy refuses, nobody else takes its
        # port.
        self._place = socket.socket()
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._place.bind(("127.0.0.1", 0))
        self.port: int = self._place.getsockname()[1]
        self.accept()

    def accept(self) -> None:
        """Forward, as at the start."""
        self._run(self._accept())

    def refuse(self) -> None:
        """Cut every connection and refuse new ones."""
        self._run(self._refuse())

    def hang(self) -> None:
        """Accept and keep connections, but pass nothing in either direction."""
        self._run(self._hang())

    def silence(self) -> None:
        """Keep the connections that there are, and pass nothing; forward new ones."""
        self._run(self._silence())

    def _run(self, work: Coroutine[Any, Any, Returned]) -> Returned:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=60)

    async def _accept(self) -> None:
        self._flowing.set()
        if self._listener is None:
            self._listener = await asyncio.start_server(
                self._connect, "127.0.0.1", self.port, reuse_port=True
            )

    async def _hang(self) -> None:
        await self._accept()
        self._flowing.clear()

    async def _silence(self) -> None:
        self._flowing.clear()
        self._silent.append(self._flowing)
        self._flowing = asyncio.Event()
        self._flowing.set()

    async def _refuse(self) -> None:
        for flowing in (self._flowing, *self._silent):
            flowing.set()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for connection in list(self._connections):
            connection.transport.abort()

    async def _connect(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._connections.add(writer)
        flowing = self._flowing
        await flowing.wait()

        with contextlib.suppress(OSError):
            server_reader, server_writer = await asyncio.open_connection(*self._target)
            self._connections.add(server_writer)
            await asyncio.gather(
                self._pump(reader, server_writer, flowing),
                self._pump(server_reader, writer, flowing),
            )
        writer.close()

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        flowing: asyncio.Event,
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := await source.read(65536):
                await flowing.wait()
                sink.write(chunk)
                await sink.drain()
        sink.close()
        self._connections.discard(sink)
