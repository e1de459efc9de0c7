"""Add parcels"""

import sqlalchemy as sa
from alembic import op

revision = "5d0c8a7e1f42"
down_revision = "ledger_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the database to this revision."""
    op.create_table(
        "parcels",
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("street", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_parcels")),
    )
    op.create_table(
        "deliveries",
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("parcel", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "attempt", name=op.f("pk_deliveries")),
    )


def downgrade() -> None:
    """Bring the database back to the revision before."""
    op.drop_table("deliveries")
    op.drop_table("parcels")
