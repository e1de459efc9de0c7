"""Fill a ledger with so many tasks of a kind, by one statement."""

from dataclasses import dataclass

EMPTY = "an empty ledger"

_FILL = """
    INSERT INTO tasks (id, name, arguments, status, queue, priority, attempts,
        max_attempts, result, created_at, started_at, finished_at, published_at,
        wake_at)
    SELECT ('00000000-0000-7000-8000-' || lpad(to_hex(i), 12, '0'))::uuid,
        'trivial', '{{"index":0}}', {status}, 'default', 0, {attempts}, 5, {result},
        {moment}, {started}, {finished}, {published}, {wake}
    FROM generate_series(1, {number}) AS i
"""


@dataclass(frozen=True)
class Size:
    """So many rows of a kind: finished, published or due."""

    number: int
    kind: str

    def __str__(self) -> str:
        return f"{self.number:,} {self.kind}" if self.number else EMPTY

    @property
    def statement(self) -> str:
        """What inserts them."""
        # In the order of their ids, as they grow in production.
        share = f"(1 - i / {self.number + 1}.0)"
        if self.kind == "finished":  # Spread over the retention time.
            moment = f"now() - interval '29 d' * {share}"
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
            status=status,
            attempts=attempts,
            result=result,
            moment=moment,
            started=started,
            finished=finished,
            published=published,
            wake=wake,
            number=self.number,
        )
