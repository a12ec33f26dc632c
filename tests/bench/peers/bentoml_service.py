"""The classifier as a service of BentoML: a JPEG, or an array's bytes in the shape that BENCH_SHAPE names."""

from __future__ import annotations

import os
from typing import Annotated

import bentoml
import numpy as np
from bentoml.validators import ContentType
from shared import classify, open_session, pixels_of


@bentoml.service(traffic={"timeout": 60})
class Classifier:
    def __init__(self) -> None:
        self.session = open_session()
        self.shape = tuple(map(int, os.environ["BENCH_SHAPE"].split(",")))

    @bentoml.api(route="/jpeg")
    def jpeg(self, data: Annotated[bytes, ContentType("image/jpeg")], /) -> list[list[float]]:
        return classify(self.session, pixels_of(data, self.shape[3])).tolist()

    @bentoml.api(route="/tensor")
    def tensor(self, data: Annotated[bytes, ContentType("application/octet-stream")], /) -> list[list[float]]:
        return classify(self.session, np.frombuffer(data, np.uint8).reshape(self.shape)).tolist()
