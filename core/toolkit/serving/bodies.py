"""What the bodies of requests to a domain's routes have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Body(BaseModel):
    """A request's body. A field that is not understood is refused: an answer that passes it over looks right."""

    model_config = ConfigDict(extra="forbid")
