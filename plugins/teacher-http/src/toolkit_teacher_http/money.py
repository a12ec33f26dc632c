"""What answers cost, and a budget that stops before the request that could break it."""

from __future__ import annotations

import asyncio

from toolkit.text import Prompt, Usage

MILLION = 1_000_000
TEMPLATE_TOKENS = 32
"""More than any chat template adds to a message."""


class BudgetSpent(Exception):
    """The next request could cost more than is left.

    Args:
        spent: what has been spent at most. most: what the next request could cost.
    """

    def __init__(self, spent: float, most: float) -> None:
        super().__init__(f"{spent} spent, {most} more")
        self.spent, self.most = spent, most


class Ledger:
    """Money in the plan's currency: spent, and set aside for requests under way at the most they can cost.

    Nobody knows the teacher's tokenizer here; but no tokenizer makes more tokens of a text than it has bytes.
    """

    def __init__(self, *, price_in: float, price_out: float, budget: float | None, spent: float) -> None:
        self._price_in, self._price_out, self._budget = price_in / MILLION, price_out / MILLION, budget
        self.spent, self._aside, self._under_way = spent, 0.0, 0
        self._changed = asyncio.Condition()

    def cost(self, usage: Usage) -> float:
        return usage.prompt_tokens * self._price_in + usage.completion_tokens * self._price_out

    def most(self, prompt: Prompt, max_tokens: int) -> float:
        """The most that one answer can cost."""
        texts = [message.content.encode("utf-8", "surrogatepass") for message in prompt.messages]
        return self.cost(Usage(sum(map(len, texts)) + TEMPLATE_TOKENS * (len(texts) + 1), max_tokens))

    async def set_aside(self, most: float) -> None:
        """Wait until what is under way leaves room for `most`. Raises BudgetSpent where it never will."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._under_way or self._fits(self._aside + most))
            if not self._fits(self._aside + most):
                raise BudgetSpent(self.spent, most)
            self._aside += most
            self._under_way += 1

    async def settle(self, most: float, cost: float) -> None:
        """A request is over: `cost` was spent of the `most` that was set aside."""
        async with self._changed:
            self.spent += cost
            self._under_way -= 1
            self._aside = self._aside - most if self._under_way else 0.0
            self._changed.notify_all()

    def _fits(self, more: float) -> bool:
        return self._budget is None or self.spent + more <= self._budget
