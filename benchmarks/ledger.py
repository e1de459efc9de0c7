"""Fill a ledger with so many tasks of a kind, by one statement."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.servers import PostgreSQL

EMPTY = "an empty ledger"

# What an attempt counts since the ledger tells failures from interruptions; a commit
# before that has no such columns.
_COUNTS = ("failures", "interruptions")

# In whose ids their tasks are.
_BLOCKS = {"finished": "8000", "expired": "8001", "published": "8002", "due": "8003"}

_FILL = """
    INSERT INTO tasks (id, name, arguments, status, queue, priority, attempts,
        max_attempts, result, created_at, started_at, finished_at, published_at,
        wake_at{more_columns})
    SELECT ('00000000-0000-7000-{block}-' || lpad(to_hex(i), 12, '0'))::uuid,
        'trivial', '{{"index":' || i - 1 || '}}', {status}, 'default', 0, {attempts}, 5,
        {result}, {moment}, {started}, {finished}, {published}, {wake}{more_values}
    FROM generate_series(1, {number}) AS i
"""


@dataclass(frozen=True)
class Size:
    """So many rows of a kind: finished, expired, published or due."""

    number: int
    kind: str

    def __str__(self) -> str:
        return f"{self.number:,} {self.kind}" if self.number else EMPTY

    def statement(self, counts: Sequence[str]) -> str:
        """Return what inserts them, with nothing counted in these columns."""
        # In the order of their ids, as they grow in production.
        share = f"(1 - i / {self.number + 1}.0)"
        if self.kind in {"finished", "expired"}:
            # Spread over the retention time, or past it.
            age = "'29 d'" if self.kind == "finished" else "'60 d' - interval '29 d'"
            moment = f"now() - interval {age} * {share}"
            status = "CASE WHEN i % 100 = 0 THEN 'failed' ELSE 'succeeded' END"
            attempts, result, wake = 1, "'null'", "NULL"
            started = finished = published = moment
        else:
            moment = f"now() - interval '1 h' * {share}"
            status, attempts, result = "'queued'", 0, "NULL"
            started = finished = "NULL"
            is_published = self.kind == "published"
            published = moment if is_published else "NULL"
            wake = "now() + interval '1 d'" if is_published else moment

        return _FILL.format(
            block=_BLOCKS[self.kind],
            status=status,
            attempts=attempts,
            result=result,
            moment=moment,
            started=started,
            finished=finished,
            published=published,
            wake=wake,
            number=self.number,
            more_columns="".join(f", {name}" for name in counts),
            more_values=", 0" * len(counts),
        )


def fill(postgresql: PostgreSQL, url: str, *sizes: Size) -> None:
    """Put so many tasks into a ledger, in the place of all that it holds."""
    listing = (
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'tasks'"
    )
    found = {name for [name] in postgresql.query(url, listing)}
    counts = [name for name in _COUNTS if name in found]

    inserting = [size.statement(counts) for size in sizes if size.number]
    postgresql.query(url, "TRUNCATE tasks", *inserting, "CHECKPOINT")
