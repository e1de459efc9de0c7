"""How the cost of the ledger's statements depends on how many tasks it holds."""

from dataclasses import dataclass

from benchmarks.figures import Goal, Result, short
from benchmarks.lab import Lab, Project

WITHIN = Goal(at_most=1.2)

_FILL = """
    INSERT INTO tasks (id, name, arguments, status, queue, priority, attempts, max_attempts,
        result, created_at, started_at, finished_at, published_at, wake_at)
    SELECT ('00000000-0000-7000-8000-' || lpad(to_hex(i), 12, '0'))::uuid, 'trivial',
        '{{"index":0}}', {status}, 'default', 0, {attempts}, 5, {result},
        {moment}, {started}, {finished}, {published}, {wake}
    FROM generate_series(1, {number}) AS i
"""


@dataclass(frozen=True)
class Size:
    """So many rows of a kind, in a database of their own."""

    number: int
    kind: str

    def __str__(self) -> str:
        return f"{short(self.number)} {self.kind}" if self.number else "an empty ledger"

    @property
    def statement(self) -> str:
        """What inserts them."""
        # Spread over the retention time, in the order of their ids, as they grow in
        # production.
        moment = f"now() - interval '29 d' * (1 - i / {self.number + 1}.0)"
        if self.kind == "finished":
            return _FILL.format(
                number=self.number,
                status="CASE WHEN i % 100 = 0 THEN 'failed' ELSE 'succeeded' END",
                attempts=1,
                result="'null'",
                moment=moment,
                started=moment,
                finished=moment,
                published=moment,
                wake="NULL",
            )
        is_published = self.kind == "published"
        moment = f"now() - interval '1 h' * (1 - i / {self.number + 1}.0)"
        return _FILL.format(
            number=self.number,
            status="'queued'",
            attempts=0,
            result="NULL",
            moment=moment,
            started="NULL",
            finished="NULL",
            published=moment if is_published else "NULL",
            wake="now() + interval '1 d'" if is_published else moment,
        )


def bench(lab: Lab) -> Result:
    """Fill a database per size, and measure them in turns."""
    result = Result("growth")
    project = lab.project(lab.variants[0].name)
    finished = [
        Size(number, "finished") for number in lab.scale.sizes(100_000, 5_000_000)
    ]
    small, large = lab.scale.sizes(1_000, 1_000_000)
    comparisons = [
        *((size, Size(0, "finished")) for size in finished),
        (Size(large, "published"), Size(small, "published")),
        (Size(large, "due"), Size(small, "due")),
    ]
    sizes = dict.fromkeys(
        size for comparison in comparisons for size in reversed(comparison)
    )
    urls = {size: _fill(lab, project, size) for size in sizes}
    measured: dict[Size, list[dict[str, float]]] = {size: [] for size in urls}
    number = lab.scale(500, 20)
    for _ in range(lab.scale.repetitions):
        for size, url in urls.items():
            figures = project.measure("growth", "measure", number, DATABASE_URL=url)
            measured[size].append(figures)
    for size, reference in comparisons:
        for operation in measured[size][0]:
            result.add(
                f"{operation}, {size}",
                str(reference),
                "ms",
                [figures[operation] for figures in measured[size]],
                [figures[operation] for figures in measured[reference]],
                WITHIN if size.kind == "finished" else None,
            )
    largest = finished[-1]
    plans = project.measure("growth", "explain", 0, DATABASE_URL=urls[largest])
    indexed = 0
    for name, lines in plans.items():
        scans = [
            line.strip(" ->").partition("  (")[0]
            for line in lines
            if " on tasks" in line
        ]
        indexed += any("ix_tasks_" in scan for scan in scans)
        result.notes.append(f"`{name}` with {largest}: {' · '.join(scans)}")
    what = "relay queries that read a partial index"
    result.add(
        what, "all of them", "queries", [indexed], [len(plans)], Goal(at_least=1)
    )
    result.versions = lab.postgresql.version
    return result


def _fill(lab: Lab, project: Project, size: Size) -> str:
    url = lab.database(project)
    fill = [size.statement] if size.number else []
    lab.postgresql.query(url, *fill, "VACUUM ANALYZE tasks", "CHECKPOINT")
    return url
