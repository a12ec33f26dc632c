"""One prompt to its answer: asked again after what may pass, refused with a reason after what will not."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import urljoin

import httpx

from toolkit.errors import EnvironmentUnfit, PlanError, ToolkitError, Unsupported
from toolkit.text import Completion, Prompt, Usage
from toolkit_teacher_http.exchange import Interrupted, Response, post
from toolkit_teacher_http.money import Ledger
from toolkit_teacher_http.pace import Pace, backoff, retry_after
from toolkit_teacher_http.reply import Answer, Malformed, outcome, read_answer, said
from toolkit_teacher_http.settings import SECTION, HttpSettings

LONGEST_PAUSE_S = 600.0
"""A server that asks for a longer pause ends the run: what was answered is kept, and a later run goes on."""

HINTS = {
    400: f"Check {SECTION}.max_tokens and the prompt's length against what the model takes.",
    401: f"Check the key in {SECTION}.api_key_file.",
    403: f"The key in {SECTION}.api_key_file may not use this model.",
    404: f"Check {SECTION}.url, which is a base URL, and {SECTION}.model.",
    422: f"Check the table [{SECTION}] against what the server takes.",
}


class GivenUp(Exception):
    """Another prompt has failed for good; this one is not asked again."""


class _Again(Exception):
    """Worth another try, after at least `pause` seconds."""

    def __init__(self, message: str, pause: float = 0.0) -> None:
        super().__init__(message)
        self.pause = pause


class Asker:
    """Asks one server; every worker shares it, and with it the pace and the ledger."""

    def __init__(self, settings: HttpSettings, client: httpx.AsyncClient, ledger: Ledger, key: str | None) -> None:
        self._settings, self._client, self._ledger, self._key = settings, client, ledger, key
        self._pace = Pace(settings.requests_per_minute)
        self.giving_up = asyncio.Event()

    async def ask(self, prompt: Prompt) -> Completion:
        """The answer to `prompt`.

        Raises:
            PlanError, Unsupported: the server refuses what it is asked. EnvironmentUnfit: it stays out of reach, or
            answers nonsense. BudgetSpent, GivenUp.
        """
        body = _body(self._settings, prompt)
        for attempt in range(1, self._settings.max_retries + 2):
            try:
                return await self._try(prompt, body)
            except _Again as problem:
                if attempt > self._settings.max_retries:
                    raise self._error(
                        EnvironmentUnfit,
                        f"no answer to the prompt {prompt.id} in {attempt} tries; the last time: {problem}",
                        "Run again when the server is well: what was answered is kept.",
                    ) from problem
                await self._wait(attempt, problem.pause)
        raise AssertionError("the last try returns or raises")

    async def _wait(self, attempt: int, pause: float) -> None:
        """Back off; a pause that the server asked for holds for all."""
        self._pace.pause(pause)
        wait = backoff(attempt, first=self._settings.backoff_s, longest=self._settings.max_backoff_s)
        await self._sleep(max(pause, wait))

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.giving_up.wait()
        except TimeoutError:
            return
        raise GivenUp

    async def _try(self, prompt: Prompt, body: bytes) -> Completion:
        most = self._ledger.most(prompt, self._settings.max_tokens)
        await self._ledger.set_aside(most)
        cost = 0.0
        try:
            await self._pace.turn(self._sleep)
            if self.giving_up.is_set():
                raise GivenUp
            cost = most  # until the server has told: an answer that is lost on its way may be billed
            response = await post(self._client, self._settings, body)
            cost = 0.0
            self._refuse(prompt, response)
            cost = most
            answer = read_answer(response.body)
            cost = self._cost(answer.usage, most)
            return self._completion(prompt, answer, cost)
        except Interrupted as error:
            cost = most if error.billed else 0.0
            raise _Again(str(error)) from error
        except Malformed as error:
            cost = self._cost(error.usage, most)
            raise _Again(str(error)) from error
        finally:
            await self._ledger.settle(most, cost)

    def _cost(self, usage: Usage | None, most: float) -> float:
        return most if usage is None else self._ledger.cost(usage)

    def _refuse(self, prompt: Prompt, response: Response) -> None:
        """Raise what a status other than 200 means."""
        what = outcome(response.status)
        if what == "answer":
            return
        told = f"{self._settings.url} answers {response.status}: {said(response.body)}"
        if what == "again":
            pause = retry_after(response.headers)
            if pause > LONGEST_PAUSE_S:
                hint = "Run again then: what was answered is kept."
                raise self._error(EnvironmentUnfit, f"{told}; it asks to come back in {pause:.0f} s", hint)
            raise _Again(told, pause)
        if what == "elsewhere":
            target = urljoin(self._settings.endpoint, response.headers.get("location", ""))
            raise self._error(
                PlanError,
                f"{self._settings.url} sends on to {target}, which the plan does not name",
                f"If that server may have your prompts, set {SECTION}.url to it.",
            )
        if what == "environment":
            raise self._error(EnvironmentUnfit, told, "Settle the account with the provider, then run again.")
        hint = HINTS.get(response.status, HINTS[422])
        raise self._error(PlanError, f"{told} (asked for the prompt {prompt.id})", hint)

    def _completion(self, prompt: Prompt, answer: Answer, cost: float) -> Completion:
        if self._settings.top_logprobs and not any(choice.top for choice in answer.top_logprobs):
            raise self._error(
                Unsupported,
                f"{self._settings.model} at {self._settings.url} gives no log-probabilities",
                f"Set {SECTION}.top_logprobs=0 and choose a recipe that learns from text.",
            )
        return Completion(
            prompt_id=prompt.id,
            text=answer.text,
            finish=answer.finish,
            usage=answer.usage,
            cost=cost,
            reasoning=answer.reasoning,
            top_logprobs=answer.top_logprobs,
        )

    def _error(self, kind: type[ToolkitError], message: str, hint: str) -> ToolkitError:
        """An error without the key, which servers like to repeat."""
        if self._key:
            message = message.replace(self._key, "***")
        return kind(message, hint=hint, plugin="distil-toolkit-teacher-http")


def _body(settings: HttpSettings, prompt: Prompt) -> bytes:
    asked: dict[str, object] = {
        "model": settings.model,
        "messages": [{"role": message.role, "content": message.content} for message in prompt.messages],
        "temperature": settings.temperature,
        "max_tokens": settings.max_tokens,
        "stream": False,
    }
    if settings.top_p < 1:
        asked["top_p"] = settings.top_p
    if settings.seed is not None:
        asked["seed"] = settings.seed + prompt.sample
    if settings.top_logprobs:
        asked |= {"logprobs": True, "top_logprobs": settings.top_logprobs}
    return json.dumps(asked).encode()
