"""Teachers `http` and `http-logprobs`: any OpenAI-compatible endpoint, such as DeepSeek's, vLLM, MindIE or our own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from toolkit.errors import PlanError
from toolkit.hookspecs import hookimpl
from toolkit.plan import Plan
from toolkit.protocols import Settings, TeacherRecord
from toolkit.text import Prompt, Sampling
from toolkit.text_teachers import Answers, TextTeacher, record_of
from toolkit.workspace import digest_of
from toolkit_teacher_http.settings import SECTION, HttpSettings, read_key, settings_of


@dataclass(frozen=True)
class HttpTeacher:
    """A model behind an OpenAI-compatible endpoint; its answers are asked for in parallel, within a budget."""

    name: str = "http"
    tasks: frozenset[str] = frozenset({"text_generation"})
    gives: frozenset[str] = frozenset({"text"})

    def record(self, plan: Plan) -> TeacherRecord:
        """The licence is what the plan states; a model's own is not known to its endpoint."""
        settings = settings_of(plan)
        return record_of(f"http:{settings.model}@{urlsplit(settings.url).netloc}", settings.licence)

    def fingerprint(self, plan: Plan) -> str:
        """Of the endpoint and the model's name: nothing else is known of a model that is only asked."""
        settings = settings_of(plan)
        return digest_of({"url": settings.url, "model": settings.model})

    def sampling(self, plan: Plan) -> Sampling:
        settings = settings_of(plan)
        return Sampling(
            temperature=settings.temperature,
            top_p=settings.top_p,
            max_tokens=settings.max_tokens,
            seed=settings.seed,
            top_logprobs=settings.top_logprobs,
        )

    def check(self, plan: Plan, prompts: Sequence[Prompt]) -> None:
        settings = settings_of(plan)
        if "response" in self.gives and not settings.top_logprobs:
            raise PlanError(
                f"the teacher {self.name} needs to know how many tokens to give with each",
                hint=f"--set {SECTION}.top_logprobs=20, or as many as the server allows.",
            )
        read_key(settings)

    def answers(self, plan: Plan, prompts: Iterable[Prompt], *, spent: float = 0.0) -> Answers:
        from toolkit_teacher_http.crew import Crew, HttpAnswers

        self.check(plan, ())
        settings, key = settings_of(plan), read_key(settings_of(plan))
        return HttpAnswers(lambda: Crew(settings, key, prompts, spent=spent, currency=plan.cost.currency).start())


@hookimpl
def register_teachers() -> Iterable[TextTeacher]:
    """Offer the teachers `http`, and `http-logprobs` for servers that give log-probabilities."""
    return [HttpTeacher(), HttpTeacher("http-logprobs", gives=frozenset({"text", "response"}))]


@hookimpl
def register_settings() -> Iterable[Settings]:
    """The table [teacher_http]."""
    return [Settings(SECTION, HttpSettings, {})]
