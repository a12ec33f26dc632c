"""What `POST /v1/inspect` answers where a detector stands behind it."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from toolkit.tasks.image_classification.inspection import InspectionAnswer


class AnomalyAnswer(InspectionAnswer):
    """The verdict on one picture, and where it is strange."""

    score: float = Field(description="Of the strangest place, in units of the limit: above 1 the part is refused.")
    regions: list[dict[str, Any]] = Field(
        description="Places above the limit, strangest first: `box` (left, top, right, bottom, in pixels) and `score`."
    )
    map: str = Field(description="Data URI of a small grey PNG: 128 is the limit, 255 twice the limit and above.")
