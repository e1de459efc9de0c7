"""Send requests and time them, with little work of its own, in a process of its own.

Closed loop: each connection sends its next request when it has the answer. With
`--rate`, requests start at their appointed times instead, and a late answer counts from
that time. After `--seconds` no further request is sent, and requests may fail.
"""

import argparse
import asyncio
import json
import time


class Client:
    """What is sent, and how long the answers took."""

    def __init__(self, options: argparse.Namespace) -> None:
        body = options.body.encode()
        head = f"{options.method} {options.path} HTTP/1.1\r\nHost: localhost\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._request = head.encode() + body
        self._options = options
        self._left = options.requests
        self._started = time.perf_counter()
        self._slot = 0
        self.latencies: list[float] = []
        self.failures = 0

    async def run(self) -> float:
        """Send all requests and return how many seconds that took."""
        self._started = time.perf_counter()
        await asyncio.gather(
            *(self._connect() for _ in range(self._options.connections))
        )
        return time.perf_counter() - self._started

    async def _connect(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._options.port)
        while self._left > 0:
            self._left -= 1
            started = await self._appointed_time()
            if (
                self._options.seconds
                and started - self._started > self._options.seconds
            ):
                break

            writer.write(self._request)
            head = await reader.readuntil(b"\r\n\r\n")
            if length := int(
                head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0
            ):
                await reader.readexactly(length)

            self.latencies.append(time.perf_counter() - started)
            self.failures += not head.startswith(b"HTTP/1.1 2")
        writer.close()

    async def _appointed_time(self) -> float:
        if not self._options.rate:
            return time.perf_counter()
        appointed = self._started + self._slot / float(self._options.rate)
        self._slot += 1
        await asyncio.sleep(max(0.0, appointed - time.perf_counter()))
        return appointed


def main() -> None:
    """Read the command line and print what was measured, in milliseconds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("method")
    parser.add_argument("path")
    parser.add_argument("--body", default="")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=0)
    parser.add_argument("--seconds", type=float, default=0)
    options = parser.parse_args()

    client = Client(options)
    seconds = asyncio.run(client.run())
    if client.failures and not options.seconds:
        raise SystemExit(f"{client.failures} of {options.requests} requests failed")

    ordered = sorted(latency * 1000 for latency in client.latencies)
    last = len(ordered) - 1
    answer = {
        "median": ordered[len(ordered) // 2],
        "p99": ordered[min(last, int(len(ordered) * 0.99))],
        "highest": ordered[last],
        "throughput": len(ordered) / seconds,
        "failed": client.failures / len(ordered),
    }
    print(json.dumps(answer))  # noqa: T201 - its answer


if __name__ == "__main__":
    main()
