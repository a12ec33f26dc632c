"""The review set: what comes into it, what a person says, and the way back to the lab, encrypted from end to end."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi import APIRouter, Request
from seal_parts import make_home
from serving_parts import Running, inspection, picture, running
from test_serving_cli import run_here

from toolkit.errors import DataError, IntegrityError, UsageError
from toolkit.seal.keyfile import create_recipient_key
from toolkit.seal.parcel import pack, unpack
from toolkit.seal.recipient import Recipient
from toolkit.services import Seen, Service
from toolkit.serving.ledger import Ledger, open_ledger
from toolkit.serving.refusals import NotServed
from toolkit.site.layout import Site, open_site
from toolkit.site.returned import LIST, PARCELS, Returned, receive, send
from toolkit.site.review import FOLDER, ReviewSet, Said, new_entry
from toolkit.site.settings import read_settings
from toolkit.tasks.image_classification.layout import scan_folder
from toolkit.tasks.returned import take_in
from toolkit.tasks.text_generation.rows import read_rows

RED, GREEN, OLIVE = (230, 20, 20), (20, 230, 20), (128, 128, 0)
FACTS = {"product": "tiny", "bundle": "b-123", "version": "1.7", "task": "image_classification"}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_home(tmp_path / "home").site()


@pytest.fixture
def server(site: Site) -> Iterator[Running]:
    with running(site.path, ledger=open_ledger(site)) as it:
        yield it


def inspect(client: httpx.Client, content: bytes) -> str:
    answer = client.post("/v1/inspect", content=content, headers={"Content-Type": "image/png"})
    assert answer.status_code == 200
    return str(answer.json()["request_id"])


def listed(operator: httpx.Client, wanted: int) -> list[dict[str, object]]:
    """The set, once it holds so many: what is collected by itself is written a second later."""
    deadline = time.monotonic() + 10
    while len(found := operator.get("/site/review").json()["entries"]) < wanted and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(found) == wanted
    return list(found)


def test_doubtful_answers_are_collected_and_others_are_not(server: Running) -> None:
    with server.client() as client, server.client("operate") as operator:
        inspect(client, picture(RED))
        doubtful = inspect(client, picture(OLIVE))  # as near to one class as to the other
        assert client.get("/site/review").status_code == 403
        (found,) = listed(operator, 1)
        assert (found["request_id"], found["why"], found["agree"]) == (doubtful, ["doubtful"], None)
        shown = operator.get(f"/site/review/{found['id']}").json()
        assert base64.b64decode(shown["sample"]["content"]) == picture(OLIVE)
        assert shown["sample"]["measures"]["brightness"] == 128
        assert client.get(f"/site/review/{found['id']}").status_code == 403
        assert operator.get("/site/review/0123456789abcdef").status_code == 404
        assert operator.get("/site/review/..%2f..%2faccess").status_code == 404


def test_a_person_speaks_about_an_answer(server: Running) -> None:
    with server.client() as client, server.client("operate") as operator:
        request = inspect(client, picture(RED))
        said = {"request_id": request, "agree": False, "label": "dent", "note": "a dent, bottom left"}
        assert client.post("/site/review", json=said).status_code == 201
        (found,) = listed(operator, 1)
        assert (found["why"], found["agree"], found["by"], found["verdict"]) == (["person"], False, "infer", "good")
        shown = operator.get(f"/site/review/{found['id']}").json()
        assert shown["said"] == {"agree": False, "by": "infer", "label": "dent", "note": "a dent, bottom left"}
        assert client.post("/site/review", json={"request_id": request, "agree": True}).status_code == 201
        (found,) = listed(operator, 1)  # who spoke last counts
        assert found["agree"] is True
    assert b"bottom left" not in every_byte(server.site)
    assert b"dent" not in every_byte(server.site)


def test_pages_of_the_review_set_miss_none_of_one_millisecond(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit.site.review.now", lambda: "2026-11-28T12:00:00.001Z")
    ledger, seen = open_ledger(site), Seen("picture", b"x", "good")
    made = [new_entry(FACTS, seen, request_id=name, number=0, why=("doubtful",)) for name in "abcd"]
    for entry in made:
        ledger.reviewer.set.keep(entry, seen)
    with running(site.path, ledger=ledger) as server, server.client("operate") as operator:
        found, page = [], {"next": ""}
        while page["next"] is not None:
            page = operator.get("/site/review", params={"limit": 1, "before": page["next"]}).json()
            found += [one["request_id"] for one in page["entries"]]
    assert sorted(found) == list("abcd")


def every_byte(site: Path) -> bytes:
    return b"".join(path.read_bytes() for path in site.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"request_id": "unknown", "agree": True}, 404),
        ({"request_id": "", "agree": True}, 422),
        ({"agree": True}, 422),
        ({"request_id": "HERE", "agree": True, "label": "dent"}, 422),
        ({"request_id": "HERE", "agree": False, "label": "../../etc"}, 422),
        ({"request_id": "HERE", "agree": False, "label": ".hidden"}, 422),
        ({"request_id": "HERE", "agree": False, "number": 1}, 404),
        ({"request_id": "HERE", "agree": False, "image_url": "http://example.com/x.png"}, 422),
    ],
)
def test_what_is_no_judgement_is_refused(server: Running, said: dict[str, object], status: int) -> None:
    with server.client() as client, server.client("operate") as operator:
        request = inspect(client, picture(RED))
        answer = client.post("/site/review", json={k: request if v == "HERE" else v for k, v in said.items()})
        assert (answer.status_code, set(answer.json())) == (status, {"error"})
        assert operator.get("/site/review").json()["count"] == 0


def test_a_judgement_that_another_process_takes_finds_its_input(site: Site) -> None:
    with running(site.path, ledger=open_ledger(site)) as server, server.client() as client:
        request = inspect(client, picture(RED))
        other = open_ledger(site)  # as in another worker: it knows nothing of the request but the trail
        with pytest.raises(DataError, match="cannot name a class"):
            other.reviewer.judge(request, 0, Said(False, "eve", "../../etc"))
        with pytest.raises(NotServed):
            other.reviewer.judge(request, 1, Said(True, "eve"))
        entry = other.reviewer.judge(request, 0, Said(False, "eve", "dent"))
        assert (entry.held, entry.kind) == (False, "picture")
        deadline = time.monotonic() + 10
        with server.client("operate") as operator:
            while not (found := operator.get("/site/review").json()["entries"])[0]["held"]:
                assert time.monotonic() < deadline
            shown = operator.get(f"/site/review/{found[0]['id']}").json()
        assert base64.b64decode(shown["sample"]["content"]) == picture(RED)
        assert shown["said"]["label"] == "dent"
    assert not list((site.path / FOLDER / "wanted").iterdir())


def test_an_input_has_one_sample_whichever_process_hears_of_it_first(site: Site) -> None:
    seen = Seen("picture", picture(OLIVE), "good")
    ledgers = [open_ledger(site) for _ in range(2)]
    review = ledgers[0].reviewer.set
    collected = [new_entry(FACTS, seen, request_id=name, number=0, why=("doubtful",)) for name in ("a", "b")]
    review.keep(new_entry(FACTS, None, request_id="a", number=0, why=()), None, Said(False, "eve", "dent"))
    review.take(collected[0], seen)  # after the judgement
    review.take(collected[1], seen)  # before it
    ledgers[1].reviewer.judge("b", 0, Said(True, "eve"))
    found = {one.request_id: (one.held, one.agree, one.why) for one in review.entries()}
    assert found == {"a": (True, False, ("doubtful", "person")), "b": (True, True, ("doubtful", "person"))}
    assert len(review.entries()) == 2
    with ThreadPoolExecutor(8) as people:  # two processes, and people who all speak at once
        said = [people.submit(one.reviewer.judge, "b", 0, Said(True, str(n))) for n, one in enumerate(ledgers * 8)]
    assert {one.result().request_id for one in said} == {"b"}
    assert len(review.entries()) == 2


def test_the_set_is_bounded_in_size_age_and_per_hour(site: Site) -> None:
    review = ReviewSet(site.path, keep_bytes=40_000, keep_days=2)
    seen = Seen("picture", b"x" * 9_000, "good")
    made = [review.keep(new_entry(FACTS, seen, request_id=str(i), number=0, why=("doubtful",)), seen) for i in range(6)]
    for age, entry in enumerate(reversed(made)):
        os.utime(site.path / FOLDER / entry.id, (time.time() - age * 3600,) * 2)
    review.clear()
    assert [entry.request_id for entry in review.entries()] == ["5", "4", "3"]
    os.utime(site.path / FOLDER / made[3].id, (time.time() - 3 * 86400,) * 2)
    review.clear()
    assert [entry.request_id for entry in review.entries()] == ["5", "4"]
    (site.path / "settings.toml").write_text("[review]\nan_hour = 2\n")
    ledger = open_ledger(open_site(site.path))
    assert sum(bool(ledger.reviewer._admitted(("doubtful",))) for _ in range(5)) == 2


def test_settings_that_cannot_be_are_told(site: Site) -> None:
    assert read_settings(site.path).review.collect == ("picture",)
    for text, where in (("[review]\nmargn = 1\n", "review.margn"), ("[review", "cannot be read"), ("x = 1", "x")):
        (site.path / "settings.toml").write_text(text)
        with pytest.raises(UsageError, match=where):
            read_settings(site.path)
    (site.path / "settings.toml").write_text("[review]\ncollect = []\n")
    assert read_settings(site.path).review.collect == ()


def test_from_the_site_back_into_training_data(
    tmp_path: Path, site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "lab"))
    at, carried, data = ("--site", str(site.path)), tmp_path / "carried", tmp_path / "data"
    for name in ("good", "scratch"):
        (data / name).mkdir(parents=True)
        (data / name / "a.png").write_bytes(picture(GREEN if name == "scratch" else RED))
    with running(site.path, ledger=open_ledger(site)) as server, server.client() as client:
        wrong, right, doubtful = picture((231, 20, 20)), picture((20, 231, 20), "JPEG"), picture(OLIVE)
        requests = [inspect(client, content) for content in (wrong, right, doubtful)]
        client.post("/site/review", json={"request_id": requests[0], "agree": False, "label": "dent"})
        client.post("/site/review", json={"request_id": requests[1], "agree": True})
        with server.client("operate") as operator:
            listed(operator, 3)
    assert run_here(capsys, "data", "recipient", str(tmp_path / "lab.json"))[0] == 0
    code, out, _ = run_here(capsys, "review", "export", str(carried), "--to", str(tmp_path / "lab.json"), *at, "--json")
    sent = json.loads(out)
    assert (code, sent["samples"], sent["judged"]) == (0, 3, 2)
    assert b"dent" not in every_byte(carried)
    assert wrong not in every_byte(carried)
    with_signer = ("--into", str(data), "--signer", sent["signer"])
    for taken in ({"dent": 1, "scratch": 1, "unlabelled": 1}, {"there already": 3}):
        code, out, _ = run_here(capsys, "data", "import", str(carried), *with_signer, "--json")
        assert (code, json.loads(out)["taken"]) == (0, taken)
    layout = scan_folder(data)
    assert layout.classes == ("dent", "good", "scratch")
    found = {(e.label, (data / e.path).read_bytes()) for e in layout.entries}
    assert {("dent", wrong), ("scratch", right), ("", doubtful)} <= found
    assert [e.event for e in open_site(site.path).audit.entries()][-1] == "review.sent"
    code, out, _ = run_here(capsys, "review", "list", *at)
    assert (code, out.count("\n")) == (0, 3)
    assert run_here(capsys, "review", "export", str(carried), "--to", str(tmp_path / "lab.json"), *at)[0] == 2
    assert run_here(capsys, "data", "import", str(carried), "--into", str(data), "--signer", "0" * 64)[0] == 4


def test_what_is_altered_on_its_way_is_refused(tmp_path: Path, site: Site) -> None:
    review = ReviewSet(site.path, keep_bytes=10**9, keep_days=9)
    seen = Seen("picture", picture(RED), "good")
    ids = [review.keep(new_entry(FACTS, seen, request_id="r", number=n, why=()), seen).id for n in range(2)]
    key = create_recipient_key(tmp_path / "lab.key.json", "data", None)
    send(site, review, Recipient.of(key, "lab"), tmp_path / "out")
    assert len(list(receive(tmp_path / "out", site.key_id).samples((key,)))) == 2
    first, second = (tmp_path / "out" / PARCELS / name for name in ids)
    whole = first.read_bytes()
    for altered in (whole[:-1], whole + b"x", second.read_bytes(), whole[:-5] + b"12345"):
        first.write_bytes(altered)
        with pytest.raises(IntegrityError):
            list(receive(tmp_path / "out").samples((key,)))
    first.write_bytes(whole)
    other = create_recipient_key(tmp_path / "other.key.json", "data", None)
    with pytest.raises(UsageError, match="another recipient"):
        list(receive(tmp_path / "out").samples((other,)))
    signed = tmp_path / "out" / LIST
    signed.write_bytes(signed.read_bytes().replace(b'"sig":"', b'"sig":"A'))
    with pytest.raises(IntegrityError):
        receive(tmp_path / "out")


def test_a_parcel_opens_in_its_own_place_alone(tmp_path: Path) -> None:
    key = create_recipient_key(tmp_path / "a.key.json", "data", None)
    for data in (b"", b"x", np.random.default_rng(1).bytes(100_000)):
        parcel = pack(data, Recipient.of(key, "lab"), kind="review", name="a")
        assert unpack(parcel, (key,), kind="review", name="a") == data
        for kind, name in (("review", "b"), ("other", "a")):
            with pytest.raises(IntegrityError):
                unpack(parcel, (key,), kind=kind, name=name)
        for place in range(0, len(parcel), max(1, len(parcel) // 40)):
            changed = bytearray(parcel)
            changed[place] ^= 1
            with pytest.raises((IntegrityError, UsageError)):
                unpack(bytes(changed), (key,), kind="review", name="a")
        with pytest.raises(IntegrityError):
            unpack(parcel[:-1], (key,), kind="review", name="a")


def test_text_rows_come_back_with_what_a_person_wrote(tmp_path: Path) -> None:
    content = json.dumps({"messages": [{"role": "user", "content": "2 + 2?"}], "completion": "5"}).encode()
    one = Returned("0" * 16, "text_generation", "p", "b", "text", "", "4", False, "", content)
    samples = [
        one, dataclasses.replace(one, id="1" * 16, agree=True, label=""),
        dataclasses.replace(one, id="2" * 16, agree=None, label=""),
    ]  # fmt: skip
    assert take_in("text_generation", samples, tmp_path) == {"train": 2, "unlabelled": 1}
    assert take_in("text_generation", samples, tmp_path) == {"there already": 3}
    rows = {row.id: (row.completion, row.given) for row in read_rows(tmp_path).rows}
    assert rows == {
        f"site-{'0' * 16}": ("4", "train"), f"site-{'1' * 16}": ("5", "train"), f"site-{'2' * 16}": ("", "unlabelled")
    }  # fmt: skip


def test_good_parts_are_trained_on_and_faulty_ones_tested_with(tmp_path: Path) -> None:
    one = Returned("0" * 16, "anomaly_maps", "p", "b", "picture", "anomaly", "good", False, "", picture(RED))
    samples = [
        one, dataclasses.replace(one, id="1" * 16, label="dent"), dataclasses.replace(one, id="2" * 16, label=""),
        dataclasses.replace(one, id="3" * 16, label="dent", content=b"no picture"),
    ]  # fmt: skip
    told = take_in("anomaly_maps", samples, tmp_path)
    assert told == {"good": 1, "dent": 1, "left out": 1, "unreadable": 1}
    assert (tmp_path / "train" / "good" / f"site-{'0' * 16}.png").exists()
    assert (tmp_path / "test" / "dent" / f"site-{'1' * 16}.png").exists()
    for label in ("../x", "test", "a/b", ".x", "a:b"):
        with pytest.raises(DataError):
            take_in("image_classification", [dataclasses.replace(one, label=label)], tmp_path)


def test_a_domain_says_itself_what_is_worth_a_look(site: Site) -> None:
    def ask(bundle, predictor):  # type: ignore[no-untyped-def]
        router = APIRouter()
        router.include_router(inspection(bundle, predictor).routes)

        @router.post("/v1/write")
        async def write(request: Request) -> dict[str, str]:
            row = {"messages": [{"role": "user", "content": "x"}], "completion": "y"}
            request.state.seen = [Seen("text", json.dumps(row).encode(), why=("refused",))]
            return {}

        return Service(routes=router)

    (site.path / "settings.toml").write_text('[review]\ncollect = ["text"]\n')
    ledger: Ledger = open_ledger(open_site(site.path))
    with running(site.path, ledger=ledger, ask=ask) as server, server.client() as client:
        assert client.post("/v1/write").status_code == 200
        inspect(client, picture(OLIVE))  # doubtful, but pictures are not asked for
        with server.client("operate") as operator:
            (found,) = listed(operator, 1)
            assert (found["kind"], found["why"]) == ("text", ["refused"])
            shown = operator.get(f"/site/review/{found['id']}").json()
    assert shown["sample"]["content"]["completion"] == "y"
