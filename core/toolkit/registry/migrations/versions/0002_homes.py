"""Several homes in one database: which home a run belongs to, and room for any domain's name in a run's id."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SHORT, LONG = sa.String(64), sa.String(255)


def upgrade() -> None:
    with op.batch_alter_table("run") as run:
        run.add_column(sa.Column("home", sa.String(32)))
        run.alter_column("id", type_=LONG, existing_type=SHORT, existing_nullable=False)
        run.alter_column("domain", type_=LONG, existing_type=SHORT, existing_nullable=False)
        run.create_index("ix_run_home", ["home"])
    with op.batch_alter_table("stage") as stage:
        stage.alter_column("run_id", type_=LONG, existing_type=SHORT, existing_nullable=False)


def downgrade() -> None:
    with op.batch_alter_table("stage") as stage:
        stage.alter_column("run_id", type_=SHORT, existing_type=LONG, existing_nullable=False)
    with op.batch_alter_table("run") as run:
        run.drop_index("ix_run_home")
        run.alter_column("domain", type_=SHORT, existing_type=LONG, existing_nullable=False)
        run.alter_column("id", type_=SHORT, existing_type=LONG, existing_nullable=False)
        run.drop_column("home")
