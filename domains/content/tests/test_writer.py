"""The loop from drafts to copy that may be served, over a model whose drafts the test writes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from toolkit.errors import DataError
from toolkit.plan import Plan
from toolkit.protocols import PredictorFacts
from toolkit.services import Seen
from toolkit.serving.written import SEEN, Written
from toolkit.text import GenerationRequest, Message, TextDelta, Usage
from toolkit_content.channels import channel_named, load_channels
from toolkit_content.checks import Checker
from toolkit_content.copies import Copies
from toolkit_content.domain import ContentPlan
from toolkit_content.drafting import Brief
from toolkit_content.products import Product
from toolkit_content.service import content_service, desk_of
from toolkit_content.slots import faults_of, load_pack
from toolkit_content.terms import Scanner, load_lexicon
from toolkit_content.writer import Writer, script_of, variants

PACK = load_pack("household-en")
SCANNER = Scanner([load_lexicon("en-advertising"), load_lexicon("zh-advertising")])
KETTLE = Product(
    "k", {"brand": ("Nordal",), "model": ("K3",), "category": ("kettle",), "colour": ("red",), "capacity": ("1.7 L",)}
)
GOOD = "The [brand] [model] is a red kettle. It holds [capacity]."


@dataclass
class Scripted:
    """Says the drafts one after the other, some letters at a time; remembers what it was asked."""

    drafts: Sequence[str]
    step: int = 5
    asked: list[GenerationRequest] = field(default_factory=list)
    facts: PredictorFacts = field(default_factory=lambda: PredictorFacts("installed", "test", ""))

    def check(self, request: GenerationRequest) -> None:
        """Anything goes."""

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[TextDelta]:
        draft = self.drafts[len(self.asked) % len(self.drafts)]
        self.asked.append(request)
        for start in range(0, len(draft), self.step):
            yield TextDelta(request.id, draft[start : start + self.step])
        yield TextDelta(request.id, "", "stop", Usage(3, len(draft) // 4))


def request(messages: Sequence[Message], **how: Any) -> GenerationRequest:
    return GenerationRequest("r", tuple(messages), **how)


def writer(*drafts: str, tries: int = 4) -> Writer:
    return Writer(Scripted(drafts), request, Checker(PACK, SCANNER), tries)


def written(
    *drafts: str, product: Product = KETTLE, brief: Brief | None = None, tries: int = 4, channel: str = ""
) -> Any:
    place = channel_named(load_channels(), channel) if channel else None
    return asyncio.run(writer(*drafts, tries=tries).write(product, brief or Brief(), place))


def test_a_good_first_draft_is_served_as_it_is() -> None:
    copy = written(GOOD)
    assert (copy.text, copy.by, copy.drafts) == ("The Nordal K3 is a red kettle. It holds 1.7 L.", "student", 1)
    assert copy.passes


@pytest.mark.parametrize(
    "bad",
    [
        GOOD.replace("red", "blue"),
        GOOD.replace(" It holds [capacity].", ""),
        GOOD + " [warranty]",
        GOOD + " It is waterproof.",
        GOOD + " It is the world's best.",
        GOOD + " Call 555-123-4567.",
        GOOD + " 99 W.",
        "",
    ],
)
def test_a_bad_draft_is_drawn_again_and_never_served(bad: str) -> None:
    copy = written(bad, bad, GOOD)
    assert (copy.by, copy.drafts) == ("student", 3)
    copy = written(bad)
    assert (copy.by, copy.drafts) == ("template", 4)
    assert faults_of(KETTLE, copy.text, PACK) == []


class Silent:
    """Nobody counts here."""

    def first(self, seconds: float) -> None: ...

    def next(self, seconds: float) -> None: ...

    def ended(self, usage: Usage | None) -> None: ...


@pytest.mark.parametrize(
    ("draft", "why"),
    [
        (GOOD, ()),
        (GOOD.replace("red", "blue"), ("refused",)),
        (GOOD + " It is the world's best.", ("terms", "refused")),
    ],
)
def test_a_draft_that_was_refused_is_for_a_person_to_look_at(draft: str, why: tuple[str, ...]) -> None:
    made, noted = writer(draft, GOOD), list[Seen]()
    token = SEEN.set(noted)
    try:
        asyncio.run(replace(made, predictor=Written(made.predictor, Silent())).write(KETTLE, Brief(), None))
    finally:
        SEEN.reset(token)
    assert [one.why for one in noted] == ([why, ()] if why else [()])
    assert json.loads(noted[0].content)["completion"] == draft


def test_a_draft_that_was_learnt_whole_is_drawn_again_and_the_packs_sentences_are_no_copy() -> None:
    learnt = "The Nordal K3 is a red kettle. It holds 1.7 L."
    own = written("nonsense").text
    made = writer(GOOD)
    made = replace(made, checker=replace(made.checker, copies=Copies.of([learnt, own])))
    copy = asyncio.run(made.write(KETTLE, Brief(), None))
    assert (copy.text, copy.by) == (own, "template")


def test_only_the_first_draft_is_the_likeliest() -> None:
    made = writer("bad", "bad", GOOD)
    asyncio.run(made.write(KETTLE, Brief(), None, seed=5))
    asked = made.predictor.asked  # type: ignore[attr-defined]
    assert [one.temperature for one in asked] == [0.0, 0.7, 0.7]
    assert len({one.seed for one in asked}) == 3


def test_variants_differ_and_a_repeated_one_is_not_given_twice() -> None:
    other = "Meet the [brand] [model], a red kettle. It takes [capacity]."

    async def texts(made: Writer) -> list[str]:
        return [one.text async for one in variants(made, KETTLE, Brief(), None, 3)]

    assert len(asyncio.run(texts(writer(GOOD, other, GOOD)))) == 2


def test_what_nobody_can_say_is_told_with_the_reason() -> None:
    product = Product("k", {**KETTLE.attributes, "brand": ("world's best",)})
    with pytest.raises(DataError, match="not the template's either: world's best"):
        written("x", product=product)


def test_a_title_says_what_names_the_product() -> None:
    copy = written("nonsense", brief=Brief(form="title"), channel="amazon")
    assert copy.text == "Nordal K3 kettle, 1.7 L, red"


def test_a_scripts_seconds_add_up_and_do_not_go_over_the_channels() -> None:
    script = script_of("The Nordal K3 is a red kettle. It holds 1.7 L.", Brief(form="script"), None, PACK)
    spoken = [
        script["hook"]["seconds"],
        *(shot["seconds"] for shot in script["shots"]),
        script["call_to_action"]["seconds"],
    ]
    assert script["seconds"] == pytest.approx(sum(spoken))
    assert script["hook"]["seconds"] <= 3
    assert [shot["voice_over"] for shot in script["shots"]] == ["The Nordal K3 is a red kettle.", "It holds 1.7 L."]
    with pytest.raises(DataError, match="the script takes"):
        script_of(
            "这是一个很长的句子，说了很多很多话。" * 30,
            Brief(form="script", language="zh"),
            load_channels()["douyin"],
            PACK,
        )


def bundle(**settings: Any) -> dict[str, Any]:
    import importlib.resources

    root = importlib.resources.files("toolkit_content")
    plan = Plan(domain="content", task="text_generation").model_dump(mode="json")
    files = {
        "pack-en.toml": (root / "packs" / "household-en.toml").read_bytes(),
        "lexicon-0.toml": (root / "lexicon" / "en-advertising.toml").read_bytes(),
    }
    plan |= {"content": ContentPlan(**settings).model_dump(mode="json")}
    return {"id": "b-1", "product": "desk", "plan": plan, "files": files}


def ask(app: Callable[..., Any], method: str, route: str, body: Any = None) -> httpx.Response:
    async def asked() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://site") as client:
            return await client.request(method, route, json=body)

    return asyncio.run(asked())


def app_of(site: Path, *drafts: str, **settings: Any) -> Any:
    from fastapi import FastAPI

    from toolkit.serving.app import _add_errors

    app = FastAPI()
    app.include_router(content_service(site, bundle(**settings), Scripted(drafts)).routes)
    _add_errors(app)
    return app


ATTRIBUTES = {"id": "k", "brand": "Nordal", "model": "K3", "category": "kettle", "colour": "red", "capacity": "1.7 L"}


def test_copy_is_served_with_what_it_says_and_its_marks(tmp_path: Path) -> None:
    app = app_of(tmp_path, GOOD, marking="cn")
    (copy,) = ask(app, "POST", "/v1/copy", {"product": ATTRIBUTES}).json()["copies"]
    assert copy["text"] == "The Nordal K3 is a red kettle. It holds 1.7 L."
    assert copy["published"].endswith("(AI-generated)")
    said = {one["attribute"]: copy["text"][slice(*one["span"])] for one in copy["said"]}
    assert said == {"brand": "Nordal", "model": "K3", "category": "kettle", "colour": "red", "capacity": "1.7 L"}
    exported = {"copies": [{"text": copy["published"], "metadata": copy["metadata"]}], "profile": "cn"}
    assert ask(app, "POST", "/v1/export", exported).status_code == 200
    exported["copies"][0]["text"] = copy["text"]
    refused = ask(app, "POST", "/v1/export", exported)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "forbidden")


def test_attributes_may_stand_by_themselves_and_lines_stay_lines(tmp_path: Path) -> None:
    product = {"id": "k", "attributes": {name: value for name, value in ATTRIBUTES.items() if name != "id"}}
    draft = "the [brand]  [model] is a red kettle.\n\n it holds [capacity]."
    answer = ask(app_of(tmp_path, draft), "POST", "/v1/copy", {"product": product, "brief": {"form": "bullets"}})
    assert answer.json()["copies"][0]["text"] == "The Nordal K3 is a red kettle.\nIt holds 1.7 L."


def test_a_catalogue_goes_on_past_a_product_that_cannot_be_written_about(tmp_path: Path) -> None:
    import json

    products = [
        ATTRIBUTES,
        {"id": "empty"},
        {**ATTRIBUTES, "id": "k2", "brand": "world's best"},
        {**ATTRIBUTES, "id": "k3"},
    ]
    answer = ask(app_of(tmp_path, GOOD), "POST", "/v1/catalogue", {"products": products})
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [(line["id"], "error" in line) for line in lines] == [
        ("k", False),
        ("empty", True),
        ("k2", True),
        ("k3", False),
    ]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"product": {}}, 422),
        ({"product": {"a": {"b": 1}}}, 422),
        ({"product": ATTRIBUTES, "brief": {"form": "poem"}}, 422),
        ({"product": ATTRIBUTES, "brief": {"channel": "nowhere"}}, 422),
        ({"product": ATTRIBUTES, "variants": 99}, 422),
        ({"product": ATTRIBUTES, "form": "title"}, 422),
        ({"product": ATTRIBUTES, "brief": {"lenght": 3}}, 422),
        ({}, 422),
        ({"product": ATTRIBUTES, "brief": {"form": "script", "channel": "x"}}, 422),
    ],
)
def test_a_request_that_cannot_be_is_named(body: Any, status: int, tmp_path: Path) -> None:
    answer = ask(app_of(tmp_path, GOOD), "POST", "/v1/copy", body)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


def test_any_text_can_be_checked_and_the_rules_be_read(tmp_path: Path) -> None:
    app = app_of(tmp_path, GOOD)
    found = ask(app, "POST", "/v1/check", {"text": "The world's best kettle.", "product": ATTRIBUTES}).json()
    assert not found["passes"]
    assert {one["kind"] for one in found["findings"]} == {"term", "attribute"}
    assert ask(app, "POST", "/v1/check", {"text": "A plain text."}).json() == {"passes": True, "findings": []}
    assert "amazon" in ask(app, "GET", "/v1/channels").json()
    (lexicon,) = ask(app, "GET", "/v1/lexicon").json()
    assert lexicon["name"] == "en-advertising"


def test_an_operators_own_lexicon_is_looked_for_too(tmp_path: Path) -> None:
    (tmp_path / "content").mkdir()
    (tmp_path / "content" / "lexicon-own.toml").write_text(
        'name = "own"\nlanguage = "en"\nversion = "1"\n[[group]]\nseverity = "block"\nbecause = "b"\nsource = "s"\n'
        'terms = ["kettle"]\n'
    )
    desk = desk_of(tmp_path, bundle(), Scripted([GOOD]))
    assert [lexicon.name for lexicon in desk.lexicons] == ["en-advertising", "own"]
    with pytest.raises(DataError, match="kettle"):
        asyncio.run(desk.writer("en").write(KETTLE, Brief(), None))
    (tmp_path / "content" / "lexicon-own.toml").write_text("nonsense")
    with pytest.raises(DataError):
        desk_of(tmp_path, bundle(), Scripted([GOOD]))
