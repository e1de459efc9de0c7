"""Run Alembic's migrations on the database that the settings name."""

import asyncio

from alembic import context
from sqlalchemy import Connection, NullPool, func, select

import app.delivery.table
import app.models  # noqa: F401 -- imported so that autogenerate sees its tables
from app.database import Base, create_database_engine, database_engine
from app.settings import settings


def run_offline() -> None:
    """Print the SQL instead of running it."""
    context.configure(
        url=database_engine.url, target_metadata=Base.metadata, literal_binds=True
    )
    with context.begin_transaction():
        context.run_migrations()


def run(connection: Connection) -> None:
    """Migrate over an open connection, in one transaction on SQLite too.

    Of several that start together, each waits for the one before it.
    """
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=True,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        if connection.dialect.name == "postgresql":
            lock = func.pg_advisory_xact_lock(func.hashtext("alembic_version"))
            connection.execute(select(lock))
        context.run_migrations()


async def run_online() -> None:
    """Connect and migrate."""
    engine = create_database_engine(settings.database_url, poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(run)
    await engine.dispose()


if context.is_offline_mode():
    run_offline()
else:
    asyncio.run(run_online())
