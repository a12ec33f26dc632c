"""The table [ray] of toolkit.toml."""

from __future__ import annotations

from typing import cast

from pydantic import Field, field_validator

from toolkit.plan import Plan, Section

SECTION = "ray"


class RaySettings(Section):
    """Which cluster, and what a piece of work takes of it."""

    address: str = Field("", description="HOST:PORT of the cluster, or auto; none starts a Ray on this machine alone.")
    workers: int = Field(0, ge=0, le=100_000, description="Most pieces at a time; 0 takes all cores there are.")
    cpus: int = Field(1, ge=1, le=1024, description="Cores that a piece takes.")
    gpus: float = Field(0.0, ge=0, le=64, description="Accelerators, or the share of one, that a piece takes.")
    retries: int = Field(3, ge=0, le=100, description="Times that a piece is done again whose worker died.")

    @field_validator("address")
    @classmethod
    def _is_of_a_node(cls, address: str) -> str:
        if "://" in address:
            raise ValueError(
                "it is HOST:PORT or auto: the toolkit runs on a node of the cluster, not as a remote client"
            )
        return address


def settings_of(plan: Plan) -> RaySettings:
    """The plan's table."""
    return cast(RaySettings, getattr(plan, SECTION))
