"""Hold a snapshot of the database, as a backup or an analyst does, until stopped."""

import asyncio
import os

import asyncpg


async def main() -> None:
    """Read once in a transaction that stays open."""
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    async with connection.transaction(isolation="repeatable_read"):
        await connection.fetchval("SELECT count(*) FROM orders")
        print("held", flush=True)  # noqa: T201 - the benchmark reads it
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
