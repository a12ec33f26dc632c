"""The recent past of a server for charts: what is counted, and `GET /site/figures`, which tells it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from toolkit.serving.figures import SECONDS, Figures
from toolkit.serving.tally import Passed

ROUTE = "/site/figures"


def pulse(figures: Figures, waiting: Callable[[], int], aside: Sequence[str]) -> Passed:
    """Counts answers to those who use the models: neither the console's nor operations, which are `aside`."""
    left_out = tuple(aside)

    def passed(path: str, status: int, seconds: float) -> None:
        if not path.startswith(left_out):
            figures.answered(status, seconds, waiting())

    return passed


def figures_route(figures: Figures, dependencies: Sequence[Any]) -> APIRouter:
    """The route; `dependencies` decide who may ask."""
    router = APIRouter(tags=["operations"], dependencies=[Depends(one) for one in dependencies])

    @router.get(
        ROUTE,
        summary="The last minutes in points of five seconds, for charts. Needs the role operate.",
        description="Columns of equal length, oldest first. `requests`, `errors` (500 and above, but 503) and "
        "`refused` (429, 503) are a second; `queue` is the longest. All worker processes are counted.",
    )
    async def figures_of(minutes: Annotated[int, Query(ge=1, le=SECONDS // 60)] = 10) -> dict[str, Any]:
        return {"since": figures.since, **figures.series(minutes)}

    return router
