"""Learners, what they know, what they were given, what they answered; difficulties of items."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "education_0001"
down_revision = None
branch_labels = ("education",)
depends_on = None


def learner(**more: bool) -> sa.Column[str]:
    """The column that all that is a learner's own has."""
    key = sa.ForeignKey("education_learner.id", ondelete="CASCADE")
    return sa.Column("learner", sa.String(32), key, nullable=False, **more)


def upgrade() -> None:
    op.create_table(
        "education_learner",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("enrolled", sa.DateTime(timezone=True), nullable=False),
    )
    op.create_table(
        "education_knowledge",
        learner(primary_key=True),
        sa.Column("skill", sa.String(128), primary_key=True),
        sa.Column("posterior", sa.JSON, nullable=False),
        sa.Column("answers", sa.Integer, nullable=False),
        sa.Column("card", sa.JSON, nullable=False),
    )
    op.create_table(
        "education_difficulty",
        sa.Column("skill", sa.String(128), primary_key=True),
        sa.Column("level", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("value", sa.Float, nullable=False),
        sa.Column("answers", sa.Integer, nullable=False),
    )
    op.create_table(
        "education_served",
        sa.Column("id", sa.Integer, primary_key=True),
        learner(index=True),
        sa.Column("item", sa.String(128), nullable=False),
        sa.Column("skill", sa.String(128), nullable=False),
        sa.Column("level", sa.Integer, nullable=False),
        sa.Column("served", sa.DateTime(timezone=True), nullable=False),
        sa.Column("content", sa.JSON),
        sa.UniqueConstraint("learner", "item"),
    )
    op.create_table(
        "education_answer",
        sa.Column("id", sa.Integer, primary_key=True),
        learner(index=True),
        sa.Column("item", sa.String(128), nullable=False),
        sa.Column("skill", sa.String(128), nullable=False),
        sa.Column("level", sa.Integer, nullable=False),
        sa.Column("right", sa.Boolean, nullable=False),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("answered", sa.DateTime(timezone=True), nullable=False),
    )


def downgrade() -> None:
    for name in ("answer", "served", "difficulty", "knowledge", "learner"):
        op.drop_table(f"education_{name}")
