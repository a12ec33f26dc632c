"""SITE/settings.toml: what an operator decides about a site's records. Without the file all is as it stands here.

Knows no server. The file is the operator's, and is not signed.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from toolkit.errors import UsageError
from toolkit.plan import Section

FILE = "settings.toml"

Kind = Literal["picture", "text"]


class InferenceSettings(Section):
    """[inferences]: the trail of who asked what."""

    content: bool = Field(False, description="Keep what was asked and answered, encrypted for the site's own key.")
    seal_seconds: float = Field(300.0, ge=1, le=86_400, description="How often the trail's head is signed.")
    keep_days: int = Field(400, ge=1, le=36_500, description="Older lines are removed, and that is signed.")
    keep_mb: int = Field(2_000, ge=1, description="So are the oldest beyond this size.")
    content_mb: int = Field(10_000, ge=1, description="And the oldest content beyond this one.")


class ReviewSettings(Section):
    """[review]: the encrypted set of samples that a person should look at."""

    collect: tuple[Kind, ...] = Field(("picture",), description="What is put into it without a person's asking.")
    margin: float = Field(0.2, ge=0, le=1, description="Doubtful: the likeliest class is less ahead of the second.")
    an_hour: int = Field(60, ge=0, description="Most samples collected in an hour, for each reason.")
    keep_days: int = Field(90, ge=1, le=36_500, description="Older samples are removed.")
    keep_mb: int = Field(500, ge=1, description="So are the oldest beyond this size.")
    hold_minutes: float = Field(15.0, ge=0, description="For so long an answer can be judged with its input at hand.")
    hold_mb: int = Field(64, ge=0, description="Memory for those inputs, in each worker.")


class SiteSettings(Section):
    """All of the file."""

    inferences: InferenceSettings = InferenceSettings()
    review: ReviewSettings = ReviewSettings()


def read_settings(site: Path) -> SiteSettings:
    """The settings of the site in `site`.

    Raises:
        UsageError: the file is no TOML, or has a key or a value that cannot be.
    """
    path = site / FILE
    try:
        return SiteSettings.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return SiteSettings()
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{path}: {where}: {first['msg']}", hint=_hint(first["loc"])) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} cannot be read: {error}", hint="Write it as TOML: [review] and keys below."
        ) from error


def _hint(where: tuple[int | str, ...]) -> str:
    tables = {name: field.annotation for name, field in SiteSettings.model_fields.items()}
    table = tables.get(str(where[0]))
    known = table.model_fields if isinstance(table, type) and issubclass(table, Section) and len(where) > 1 else tables
    return f"Known here: {', '.join(known)}."
