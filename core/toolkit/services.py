"""What a domain answers on a site: its routes, its pages for people, and what its answers were given to. Types only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable
from typing import Any, Literal

from toolkit.artifacts import Facts
from toolkit.protocols import Tensors
from toolkit.text import Conversation


@dataclass(frozen=True)
class Panel:
    """A page of the console's workbench, for the people who use a domain's model.

    `folder` is a folder of the domain's package (`importlib.resources.files`), with `panel.html.j2`, `panel.js`, texts
    in `en.toml` and `zh.toml`, and perhaps `panel.css`; `name` stands in its address. The template sees `facts`. `role`
    is the least that a person's key must have to open it.
    """

    name: str
    folder: Traversable
    facts: Facts = field(default_factory=dict)
    role: Literal["infer", "operate", "admin"] = "infer"


@dataclass(frozen=True)
class Service:
    """What a domain serves on a site: `routes` is a fastapi.APIRouter; core adds keys, limits, health and metrics.

    `panels` are shown in the console; without one, people get a page to try the routes on. `conversation`
    answers at OpenAI's routes; without one they know no such model. `close` is called once
    nobody asks it any more: another version answers, and this one's threads and files can go. `watch` says what an
    answer in bare tensors was given to, for protocols that know nothing else; it is asked of a sample.
    """

    routes: Any
    conversation: Conversation | None = None
    panels: Sequence[Panel] = ()
    close: Callable[[], object] = lambda: None
    watch: Watch | None = None


@dataclass(frozen=True)
class Seen:
    """What one answer was given to. A route leaves a list of them in `request.state.seen`, for audit, drift and review.

    Args:
        kind: what a person will look at.
        content: of a picture its file as it came; of a text its row as JSON, as `prepare` reads it without a label.
        verdict: what was answered, in a word: a class, or empty.
        measures: of the answer and its input, by the names that the rows of the bundle's `reference` have.
        margin: how far the answer is ahead of the next one, 0..1, where that is known.
        why: reasons for a person to look at it that the domain itself sees.
    """

    kind: Literal["picture", "text"]
    content: bytes
    verdict: str = ""
    measures: Mapping[str, float] = field(default_factory=dict)
    margin: float | None = None
    why: tuple[str, ...] = ()


Watch = Callable[[Tensors, Tensors], Sequence[Seen]]
"""What an answer was given to, of the model's inputs and outputs by name. Raises ToolkitError where it cannot say."""
