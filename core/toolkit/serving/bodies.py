"""What the bodies of requests have in common."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class Readable(BaseModel):
    """A body whose texts can be written again. JSON may spell half a surrogate pair, which is no character: it passes
    as a text until somewhere it is encoded."""

    @model_validator(mode="before")
    @classmethod
    def _is_readable(cls, data: Any) -> Any:
        try:
            json.dumps(data, ensure_ascii=False, default=str).encode()
        except UnicodeEncodeError as error:
            raise ValueError("a text has half a surrogate pair, which is no character") from error
        except RecursionError as error:
            raise ValueError("it is nested too deep") from error
        return data


class Body(Readable):
    """A request's body. A field that is not understood is refused: an answer that passes it over looks right."""

    model_config = ConfigDict(extra="forbid")
