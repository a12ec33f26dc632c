"""What a thousand requests cost, with the arithmetic shown.

It refuses to know any price: the plan states it.
"""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.errors import PlanError


@dataclass(frozen=True)
class RequestCost:
    """`amount` for 1,000 requests in the currency of the price; `arithmetic` shows how it came about."""

    amount: float
    arithmetic: str


def cost_per_1000(latency_ms: float, hourly_price: float, utilisation: float = 1.0) -> RequestCost:
    """Cost of 1,000 requests served one after another on a machine (or core) that costs `hourly_price`.

    `utilisation` is the share of the paid time spent serving, above 0 and at most 1; idle time is paid as well.

    Raises:
        PlanError: a latency, price or utilisation that cannot be.
    """
    if latency_ms <= 0 or hourly_price < 0 or not 0 < utilisation <= 1:
        raise PlanError(
            f"no cost can be worked out of {latency_ms:g} ms, a price of {hourly_price:g} and {utilisation:g} in use",
            hint="Give a latency above 0, a price of at least 0 and a utilisation above 0 and at most 1.",
        )
    amount = latency_ms / 3600 * hourly_price / utilisation
    arithmetic = (
        f"1,000 x {latency_ms:.4g} ms = {latency_ms:.4g} s; {latency_ms:.4g} / 3,600 h x {hourly_price:g} an hour "
        f"/ {utilisation:g} in use = {amount:.4g}"
    )
    return RequestCost(amount, arithmetic)


def api_cost_per_1000(prompt: int, answer: int, price_in: float, price_out: float) -> RequestCost:
    """Cost of 1,000 requests of so many tokens each at an API's prices of a million tokens."""
    amount = (prompt * price_in + answer * price_out) / 1000
    arithmetic = (
        f"1,000 x ({prompt:,} prompt tokens x {price_in:g} + {answer:,} answer tokens x {price_out:g}) / 1,000,000 "
        f"= {amount:.4g}"
    )
    return RequestCost(amount, arithmetic)
