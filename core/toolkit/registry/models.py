"""The tables. A change here needs a migration beside it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect, Float, ForeignKey, String, TypeDecorator, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Moment(TypeDecorator[datetime]):
    """A moment in UTC, going in and coming out. SQLite keeps no zone, and PostgreSQL hands out its server's."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Common base of the registry's tables."""

    type_annotation_map = {dict[str, Any]: JSON, datetime: Moment}  # noqa: RUF012 - SQLAlchemy's own


class Run(Base):
    """One `deploy`: who, when, where, what plan, how it ended. `home` is the id of the toolkit home that it ran in."""

    __tablename__ = "run"

    id: Mapped[str] = mapped_column(String(255), primary_key=True)
    domain: Mapped[str] = mapped_column(String(255), index=True)
    plan: Mapped[dict[str, Any]]
    user: Mapped[str] = mapped_column(String(128))
    host: Mapped[str] = mapped_column(String(255))
    home: Mapped[str | None] = mapped_column(String(32), index=True)
    started: Mapped[datetime]
    ended: Mapped[datetime | None]
    outcome: Mapped[str] = mapped_column(String(32), default="running")  # running | done | failed | interrupted
    error: Mapped[dict[str, Any] | None]
    stages: Mapped[list[Stage]] = relationship(back_populates="run", order_by="Stage.id", cascade="all, delete-orphan")


class Stage(Base):
    """A stage of a run, with the artifact it ended in. `kept` where the artifact was there already."""

    __tablename__ = "stage"
    __table_args__ = (UniqueConstraint("run_id", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(String(255), ForeignKey("run.id", ondelete="CASCADE"), index=True)
    name: Mapped[str] = mapped_column(String(32))
    kept: Mapped[bool]
    seconds: Mapped[float] = mapped_column(Float)
    finished: Mapped[datetime]
    artifact_digest: Mapped[str] = mapped_column(String(64), ForeignKey("artifact.digest"))
    run: Mapped[Run] = relationship(back_populates="stages")
    artifact: Mapped[ArtifactRow] = relationship()


class ArtifactRow(Base):
    """An artifact by its digest. `kind` is the record it is: Dataset, Student, Evaluation, Bundle, Installation, ..."""

    __tablename__ = "artifact"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(32), index=True)
    parents: Mapped[list[str]] = mapped_column(JSON)
    facts: Mapped[dict[str, Any]]
    created: Mapped[datetime]
