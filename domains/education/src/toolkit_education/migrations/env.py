"""Alembic's entry: a branch of this domain's own, with its own table of versions beside the registry's."""

from __future__ import annotations

from alembic import context

from toolkit_education.learner_tables import Base

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    version_table="education_version",
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
