"""The tables of learners and of free drafts. A change here needs a migration beside it (`migrations/versions`).

A learner is a random number here. No column has room for a name, a class or the school's own id: who a learner is, is
for the school to know.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Float, ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from toolkit.registry.models import Moment

PREFIX = "education_"


class Base(DeclarativeBase):
    """Common base of the tables of this domain."""

    type_annotation_map = {dict[str, Any]: JSON, list[float]: JSON, datetime: Moment}  # noqa: RUF012 - SQLAlchemy's own


class LearnerRow(Base):
    """Somebody who learns, by a random id."""

    __tablename__ = "education_learner"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    enrolled: Mapped[datetime]


class KnowledgeRow(Base):
    """learner.Knowledge: the posterior on ability.GRID, and FSRS's card as its own `to_dict` writes it."""

    __tablename__ = "education_knowledge"

    learner: Mapped[str] = mapped_column(
        String(32), ForeignKey("education_learner.id", ondelete="CASCADE"), primary_key=True
    )
    skill: Mapped[str] = mapped_column(String(128), primary_key=True)
    posterior: Mapped[list[float]]
    answers: Mapped[int]
    card: Mapped[dict[str, Any]]


class DifficultyRow(Base):
    """learner.Difficulty: a mean over all learners of the site, which tells of none of them."""

    __tablename__ = "education_difficulty"

    skill: Mapped[str] = mapped_column(String(128), primary_key=True)
    level: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[float] = mapped_column(Float)
    answers: Mapped[int]


class ServedRow(Base):
    """An item that a learner was given: once, whoever asks again. `content` is the item, where the caller keeps it."""

    __tablename__ = "education_served"
    __table_args__ = (UniqueConstraint("learner", "item"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    learner: Mapped[str] = mapped_column(String(32), ForeignKey("education_learner.id", ondelete="CASCADE"), index=True)
    item: Mapped[str] = mapped_column(String(128))
    skill: Mapped[str] = mapped_column(String(128))
    level: Mapped[int]
    served: Mapped[datetime]
    content: Mapped[dict[str, Any] | None]


class AnswerRow(Base):
    """A learner's first answer to an item, and what the marking said of it."""

    __tablename__ = "education_answer"

    id: Mapped[int] = mapped_column(primary_key=True)
    learner: Mapped[str] = mapped_column(String(32), ForeignKey("education_learner.id", ondelete="CASCADE"), index=True)
    item: Mapped[str] = mapped_column(String(128))
    skill: Mapped[str] = mapped_column(String(128))
    level: Mapped[int]
    right: Mapped[bool]
    verdict: Mapped[str] = mapped_column(Text)
    answered: Mapped[datetime]


class DraftRow(Base):
    """A free draft: who drafted it, what was found of it, and what a person said. `model` is the item model that it
    became, where it became one. Nobody's learner is in it."""

    __tablename__ = "education_draft"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    number: Mapped[int] = mapped_column(unique=True, autoincrement=False)
    outcome: Mapped[str] = mapped_column(String(16), index=True)
    because: Mapped[str] = mapped_column(Text)
    text: Mapped[str] = mapped_column(Text)
    model: Mapped[dict[str, Any] | None]
    drafter: Mapped[str] = mapped_column(Text)
    solver: Mapped[str] = mapped_column(Text)
    made: Mapped[datetime]
    reviewer: Mapped[str] = mapped_column(Text)
    reviewed: Mapped[datetime | None]
    note: Mapped[str] = mapped_column(Text)
