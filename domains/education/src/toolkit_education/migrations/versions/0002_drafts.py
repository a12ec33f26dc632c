"""Free drafts, what was found of them, and a person's review."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "education_0002"
down_revision = "education_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "education_draft",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("number", sa.Integer, nullable=False, unique=True, autoincrement=False),
        sa.Column("outcome", sa.String(16), nullable=False, index=True),
        sa.Column("because", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("model", sa.JSON),
        sa.Column("drafter", sa.Text, nullable=False),
        sa.Column("solver", sa.Text, nullable=False),
        sa.Column("made", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reviewer", sa.Text, nullable=False),
        sa.Column("reviewed", sa.DateTime(timezone=True)),
        sa.Column("note", sa.Text, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("education_draft")
