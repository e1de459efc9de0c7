"""Set the stage once: a database, and stand-ins for the broker and the clock."""

from sqlalchemy import text

from app.database import Base, database_engine

from .actors import act, loop, set_the_stage
from .storage import WRITES, open_storage, quicken_sqlite

IS_SQLITE = database_engine.dialect.name == "sqlite"


async def _prepare() -> None:
    async with database_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        await connection.execute(text(WRITES))


if IS_SQLITE:
    quicken_sqlite(database_engine)
broker, overheard = set_the_stage()
storage = open_storage(database_engine, loop)
act(_prepare(), None)
