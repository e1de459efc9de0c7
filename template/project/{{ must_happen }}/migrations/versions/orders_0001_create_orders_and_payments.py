"""Create the tables of orders, of their payments and of clients' keys."""

import sqlalchemy as sa
from alembic import op

revision = "orders_0001"
down_revision = "ledger_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the database to this revision."""
    moment = sa.DateTime(timezone=True)

    op.create_table(
        "orders",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("email", sa.String(320), nullable=False),
        sa.Column("amount", sa.Numeric(12, 2), nullable=False),
        sa.Column("created_at", moment, server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_orders"),
    )

    op.create_table(
        "payments",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("amount", sa.Numeric(12, 2), nullable=False),
        sa.Column("created_at", moment, server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_payments"),
        sa.ForeignKeyConstraint(
            ["order_id"], ["orders.id"], name="fk_payments_order_id_orders"
        ),
    )
    op.create_index("ix_payments_order_id", "payments", ["order_id"])

    op.create_table(
        "idempotency_keys",
        sa.Column("client", sa.String(320), nullable=False),
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("order_id", sa.Uuid(), nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("client", "key", name="pk_idempotency_keys"),
        sa.ForeignKeyConstraint(
            ["order_id"], ["orders.id"], name="fk_idempotency_keys_order_id_orders"
        ),
    )


def downgrade() -> None:
    """Bring the database back to the revision before."""
    op.drop_table("idempotency_keys")
    op.drop_table("payments")
    op.drop_table("orders")
