"""Create the ledger of must-happen tasks."""

import sqlalchemy as sa
from alembic import op

revision = "ledger_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the database to this revision."""
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "tasks",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("arguments", sa.Text(), nullable=False),
        sa.Column("status", sa.String(9), nullable=False),
        sa.Column("queue", sa.String(200), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("key", sa.String(200)),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("interruptions", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("result", sa.Text()),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("started_at", moment),
        sa.Column("shutdown_at", moment),
        sa.Column("finished_at", moment),
        sa.Column("published_at", moment),
        sa.Column("wake_at", moment),
        sa.PrimaryKeyConstraint("id", name="pk_tasks"),
        sa.CheckConstraint(
            "(wake_at IS NULL) = (finished_at IS NOT NULL)",
            name=op.f("ck_tasks_wakes_until_finished"),
        ),
    )
    _create_index("ix_tasks_queued", ["priority", "wake_at"], "status = 'queued'")
    _create_index("ix_tasks_running", ["wake_at"], "status = 'running'")
    _create_index("ix_tasks_finished_at", ["finished_at"], "finished_at IS NOT NULL")
    _create_index("ix_tasks_failed", ["id"], "status = 'failed'")
    _create_index("uq_tasks_name_key", ["name", "key"], "key IS NOT NULL", unique=True)

    if op.get_context().dialect.name == "postgresql":
        # Each task leaves some dead rows behind; by default the ledger's next vacuum
        # would wait for as many as a fifth of it, and take pauses meanwhile
        # (postgresql.org/docs/current/runtime-config-autovacuum.html).
        op.execute(
            "ALTER TABLE tasks SET (autovacuum_vacuum_scale_factor = 0.01,"
            " autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0,"
            " autovacuum_analyze_scale_factor = 0.05)"
        )


def _create_index(
    name: str, columns: list[str], where: str, *, unique: bool = False
) -> None:
    condition = sa.text(where)
    op.create_index(
        name,
        "tasks",
        columns,
        unique=unique,
        postgresql_where=condition,
        sqlite_where=condition,
    )


def downgrade() -> None:
    """Bring the database back to the revision before."""
    op.drop_table("tasks")
