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
        sa.Column("attempts", sa.SmallInteger(), nullable=False),
        sa.Column("max_attempts", sa.SmallInteger(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("result", sa.Text()),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("started_at", moment),
        sa.Column("finished_at", moment),
        sa.Column("published_at", moment),
        sa.Column("wake_at", moment),
        sa.PrimaryKeyConstraint("id", name="pk_tasks"),
        sa.CheckConstraint(
            "(wake_at IS NULL) = (finished_at IS NOT NULL)",
            name="ck_tasks_wakes_until_finished",
        ),
    )
    _create_index(
        "ix_tasks_status_wake_at", ["status", "wake_at"], "wake_at IS NOT NULL"
    )
    _create_index("ix_tasks_finished_at", ["finished_at"], "finished_at IS NOT NULL")
    _create_index("ix_tasks_failed", ["id"], "status = 'failed'")
    _create_index("uq_tasks_name_key", ["name", "key"], "key IS NOT NULL", unique=True)


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
