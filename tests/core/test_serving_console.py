"""The console without a browser: who gets in, what a cookie may do, which texts there are, what is counted."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import httpx
import pytest
from console_parts import GATE, HOSTILE, REFERENCE, inspecting_files
from serving_parts import Running, facts_of, picture, running

from toolkit.errors import PluginError
from toolkit.services import Panel
from toolkit.serving.access import ROLES, Access, Identity, Role, add_key, remove_key
from toolkit.serving.console.catalogue import chosen_language, own_catalogues, read_catalogues
from toolkit.serving.console.panels import read_panel
from toolkit.serving.console.session import IDLE_SECONDS, LONGEST_SECONDS, RENEW_SECONDS, Sessions
from toolkit.serving.console.showing import gate_of
from toolkit.serving.figures import SECONDS, Figures

CONSOLE = files("toolkit.serving.console")
PANELS = {
    "inspect": files("toolkit.tasks.image_classification") / "panel",
    "tutor": files("toolkit_education") / "panel",
    "copy": files("toolkit_content") / "panel",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("site")) as found:
        yield found


@contextlib.contextmanager
def entered(server: Running, role: Role) -> Iterator[httpx.Client]:
    """A browser's worth of cookies, signed in."""
    with httpx.Client(base_url=server.url, headers={"origin": server.url}, timeout=20) as client:
        answer = client.post("/console/sign-in", data={"key": server.keys[role], "next": "/console"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/console")
        yield client


def csrf(client: httpx.Client) -> str:
    found = re.search(r'data-csrf="([^"]+)"', client.get("/console").text)
    assert found
    return found[1]


# --- who gets in -------------------------------------------------------------------------------------------------


def test_without_a_session_there_is_the_sign_in_page_and_it_tells_nothing_of_the_site(server: Running) -> None:
    with httpx.Client(base_url=server.url) as client:
        for path in ("/console", "/console/keys", "/console/nothing"):
            answer = client.get(path)
            assert (answer.status_code, answer.headers["location"]) == (303, f"/console/sign-in?next={path}")
        page = client.get("/console/sign-in")
        assert page.status_code == 200
        for secret in ("b-123", "tiny", "scratch", "/v1/inspect", "/site/"):
            assert secret not in page.text
        assert client.get("/site/figures").status_code == 401


def test_the_cookie_is_one_that_scripts_and_other_sites_never_see(server: Running) -> None:
    with httpx.Client(base_url=server.url, headers={"origin": server.url}) as client:
        data = {"key": server.keys["infer"]}
        plain = client.post("/console/sign-in", data=data).headers["set-cookie"]
        assert plain.startswith("toolkit_session=")
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(plain.split("; "))
        assert server.keys["infer"] not in plain
        behind_tls = client.post("/console/sign-in", data=data, headers={"x-forwarded-proto": "https"})
        assert behind_tls.headers["set-cookie"].startswith("__Host-toolkit_session=")
        assert "Secure" in behind_tls.headers["set-cookie"].split("; ")


def test_a_wrong_key_is_refused_and_says_so_in_the_persons_language(server: Running) -> None:
    with httpx.Client(base_url=server.url, headers={"origin": server.url, "accept-language": "zh-CN"}) as client:
        answer = client.post("/console/sign-in", data={"key": "tk_wrong"})
        assert answer.status_code == 401
        assert own_catalogues()["zh"]("sign_in.unknown") in answer.text
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "headers",
    [{}, {"origin": "http://elsewhere"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}],
    ids=["none", "elsewhere", "null", "cross-site"],
)
def test_a_sign_in_that_another_page_made_is_refused(server: Running, headers: dict[str, str]) -> None:
    answer = httpx.post(f"{server.url}/console/sign-in", data={"key": server.keys["admin"]}, headers=headers)
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "going", ["https://elsewhere/", "//elsewhere", "/console/../docs", "/consolex", "javascript:1"]
)
def test_signing_in_leads_to_the_console_and_nowhere_else(server: Running, going: str) -> None:
    data = {"key": server.keys["infer"], "next": going}
    answer = httpx.post(f"{server.url}/console/sign-in", data=data, headers={"origin": server.url})
    assert answer.headers["location"] == "/console"


def test_a_request_that_changes_something_needs_the_token_and_its_own_origin(server: Running) -> None:
    body, kind = picture((200, 0, 0)), {"content-type": "image/png"}
    with entered(server, "infer") as client:
        token = csrf(client)
        assert client.post("/v1/inspect", content=body, headers=kind).status_code == 403
        assert client.post("/v1/inspect", content=body, headers={**kind, "x-csrf-token": "x"}).status_code == 403
        elsewhere = {**kind, "x-csrf-token": token, "origin": "http://elsewhere"}
        assert client.post("/v1/inspect", content=body, headers=elsewhere).status_code == 403
        good = client.post("/v1/inspect", content=body, headers={**kind, "x-csrf-token": token})
        assert (good.status_code, good.json()["verdict"]) == (200, "good")


def test_roles_are_the_servers_affair(server: Running) -> None:
    pages: dict[str, Role] = {"versions": "operate", "review": "operate", "audit": "operate", "keys": "admin"}
    for role in ROLES:
        with entered(server, role) as client:
            home = client.get("/console").text
            for page, least in pages.items():
                may = ROLES.index(role) >= ROLES.index(least)
                assert client.get(f"/console/{page}").status_code == (200 if may else 403)
                assert (f'href="/console/{page}"' in home) is may
            assert client.get("/site/figures").status_code == (403 if role == "infer" else 200)


def test_signing_out_ends_the_session_for_every_copy_of_its_cookie(server: Running) -> None:
    with entered(server, "operate") as client, httpx.Client(base_url=server.url, cookies=client.cookies) as copy:
        assert copy.get("/console").status_code == 200
        assert client.post("/console/sign-out", headers={"x-csrf-token": csrf(client)}).status_code == 204
        assert copy.get("/console").status_code == 303


def test_a_removed_key_ends_its_sessions_and_a_new_one_of_its_name_does_not_bring_them_back(server: Running) -> None:
    site = server.site
    secret = add_key(site, "leaving", "operate")
    with httpx.Client(base_url=server.url, headers={"origin": server.url}) as client:
        client.post("/console/sign-in", data={"key": secret})
        assert client.get("/console").status_code == 200
        remove_key(site, "leaving")
        assert client.get("/console").status_code == 303
        add_key(site, "leaving", "admin")
        assert client.get("/console").status_code == 303


def test_pages_allow_no_script_but_their_own(server: Running) -> None:
    with entered(server, "admin") as client:
        for path in ("/console", "/console/workbench/tiny/inspect", "/console/try", "/console/keys", "/console/audit"):
            page = client.get(path)
            policy = dict(
                part.strip().partition(" ")[::2] for part in page.headers["content-security-policy"].split(";")
            )
            assert (policy["default-src"], policy["script-src"], policy["style-src"]) == ("'none'", "'self'", "'self'")
            assert policy["require-trusted-types-for"] == "'script'"
            assert not re.search(r"""\son\w+=|\sstyle=|javascript:""", page.text)
            scripts = re.findall(r"<script([^>]*)>([^<]*)</script>", page.text)
            assert all('type="application/json"' in tag or not body for tag, body in scripts)
            loaded = re.findall(r'(?:src|href)="(/console/(?:static|panels)/[^"]+)"', page.text)
            assert loaded
            for one in loaded:
                file = client.get(one)
                assert file.status_code == 200
                assert "immutable" in file.headers["cache-control"]


def test_a_file_of_another_version_or_outside_is_not_served(server: Running) -> None:
    for path in ("/console/static/0123/console.css", "/console/static/0123/..%2Fpages.py", "/console/static/x"):
        assert httpx.get(server.url + path).status_code == 404


def test_a_product_or_panel_that_is_not_there_is_not_found(server: Running) -> None:
    with entered(server, "infer") as client:
        assert client.get("/console/workbench/other/inspect").status_code == 404
        assert client.get("/console/workbench/tiny/other").status_code == 404


# --- sessions ----------------------------------------------------------------------------------------------------


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_session_ends_when_it_idles_and_when_it_is_old(tmp_path: Path) -> None:
    add_key(tmp_path, "a", "infer")
    clock, access = Clock(), Access(tmp_path)
    sessions = Sessions(clock)
    session, token = sessions.begin(access, Identity("a", "infer"))
    assert sessions.renewed(session) is None
    clock.now += RENEW_SECONDS
    newer = sessions.renewed(session)
    assert newer
    clock.now += IDLE_SECONDS - 1
    assert sessions.read(access, token) is None
    assert sessions.read(access, newer) == (
        Identity("a", "infer"),
        session.__class__(**{**vars(session), "seen": 1_000_060}),
    )
    for _ in range((LONGEST_SECONDS - 2000) // 1000):
        found = sessions.read(access, newer)
        assert found
        newer = sessions.renewed(found[1]) or newer
        clock.now += 1000
    clock.now += 500
    assert sessions.read(access, newer) is None


def test_a_token_of_another_server_is_none(tmp_path: Path) -> None:
    add_key(tmp_path, "a", "infer")
    access = Access(tmp_path)
    _, token = Sessions().begin(access, Identity("a", "infer"))
    other = Sessions()
    assert other.read(access, token) is None
    assert other.read(access, "") is other.read(access, "\xff") is other.read(access, token[:-2] + "AA") is None


def test_forked_processes_know_each_others_sessions_and_figures(tmp_path: Path) -> None:
    add_key(tmp_path, "a", "infer")
    clock, access = Clock(), Access(tmp_path)
    sessions, figures = Sessions(clock), Figures(clock)
    session, token = sessions.begin(access, Identity("a", "infer"))
    child = os.fork()
    if child == 0:
        assert sessions.read(access, token)
        sessions.end(session)
        figures.claim(1)
        figures.answered(200, 0.01, 2)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    figures.answered(200, 0.01, 1)
    clock.now += 10
    assert sessions.read(access, token) is None
    assert (figures.series(1)["total"], max(figures.series(1)["queue"])) == (2, 2)


def test_keys_cannot_be_tried_at_will(tmp_path: Path) -> None:
    with running(tmp_path) as server, httpx.Client(base_url=server.url, headers={"origin": server.url}) as client:
        for number in range(1000):
            answer = client.post("/console/sign-in", data={"key": f"tk_{number}"})
            if answer.status_code != 401:
                break
        assert (answer.status_code, number > 100) == (429, True)
        assert int(answer.headers["retry-after"]) >= 1
        assert client.post("/console/sign-in", data={"key": server.keys["infer"]}).status_code == 303


# --- what is said ------------------------------------------------------------------------------------------------


def test_both_languages_say_everything_with_the_same_places() -> None:
    for folder in (CONSOLE / "catalogues", *PANELS.values()):
        english, chinese = read_catalogues(folder).values()
        for key, text in english.texts.items():
            assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", chinese.texts[key])), key


def test_no_text_of_a_template_or_script_bypasses_the_catalogues() -> None:
    """Outside of tags and braces a template has no letters, but for commands that a person types."""
    folders = [CONSOLE / "templates", *PANELS.values()]
    templates = [one for folder in folders for one in folder.iterdir() if one.name.endswith(".j2")]
    assert len(templates) > 10
    for template in templates:
        text = re.sub(r"\{#.*?#\}|<code>toolkit.*?</code>", "", template.read_text("utf-8"), flags=re.DOTALL)
        text = re.sub(r"\{%.*?%\}|\{\{.*?\}\}|<!doctype html>", "", text, flags=re.DOTALL)
        said = re.findall(r"""(?:title|aria-label|alt)="([^"]*[a-z][^"]*)\"""", text)
        shown = re.sub(r"<[^>]*>", "", text, flags=re.DOTALL)
        left = re.sub(r"English|中文|/docs|·|–", "", shown)
        assert not re.search(r"[^\W\d_]", left), (template.name, left.split())
        assert not said, (template.name, said)


def test_every_key_that_is_asked_for_is_there() -> None:
    own = own_catalogues()["en"]
    for one in (CONSOLE / "static").iterdir():
        if one.name.endswith(".js"):
            asked = re.findall(r"""text\("([\w.]+)\"""", one.read_text("utf-8"))
            assert not [key for key in asked if not own.says(key)], one.name
    for name, folder in PANELS.items():
        texts = read_catalogues(folder)["en"]
        asked = re.findall(r"""\b(?:text|t)\("([\w.]+)\"""", (folder / "panel.js").read_text("utf-8"))
        asked += re.findall(r"""\bt\("([\w.]+)\"""", (folder / "panel.html.j2").read_text("utf-8"))
        assert not [key for key in asked if not texts.says(key) and not own.says(key)], name


def test_every_code_of_an_error_is_said_in_each_language() -> None:
    texts = [path.read_text("utf-8") for path in (Path(__file__).parents[2] / "core").rglob("*.py")]
    codes = {code for text in texts for code in re.findall(r'^    code = "(\w+)"$', text, re.MULTILINE)}
    assert {"unauthorised", "refused", "image", "too_late"} <= codes
    codes |= {"unreachable", "invalid", "not_found", "method_not_allowed", "http"}  # of HTTP alone
    codes |= {"invalid_api_key", "rate_limit_exceeded", "model_not_found"}  # OpenAI's words for ours
    english, chinese = own_catalogues()["en"], own_catalogues()["zh"]
    assert {key.removeprefix("error.") for key in english.part("error.")} == codes | {"other"}
    assert all(re.search("[\u4e00-\u9fff]", text) for text in chinese.part("error.").values())


@pytest.mark.parametrize(
    ("cookie", "accepted", "language"),
    [
        (None, "", "en"), (None, "zh-CN,zh;q=0.9,en;q=0.8", "zh"), (None, "fr, en;q=0.5, zh;q=0.7", "zh"),
        (None, "de", "en"), ("zh", "en", "zh"), ("xx", "zh-TW", "zh"), (None, "en;q=x, zh;q=0.1", "zh"),
    ],
)  # fmt: skip
def test_the_language_is_the_chosen_one_or_the_browsers(cookie: str | None, accepted: str, language: str) -> None:
    assert chosen_language(cookie, accepted) == language


def test_catalogues_that_differ_are_refused(tmp_path: Path) -> None:
    (tmp_path / "en.toml").write_text('a = "A"\n[b]\nc = "C"')
    with pytest.raises(PluginError, match=r"no catalogue zh\.toml"):
        read_catalogues(tmp_path)
    (tmp_path / "zh.toml").write_text('a = "A"')
    with pytest.raises(PluginError, match=r"differ in b\.c"):
        read_catalogues(tmp_path)


def test_a_panel_says_what_it_lacks_and_its_facts_are_text(tmp_path: Path) -> None:
    panel = Panel("p", tmp_path, {"name": HOSTILE})
    for language in ("en", "zh"):
        (tmp_path / f"{language}.toml").write_text('title = "T"')
    with pytest.raises(PluginError, match=r"panel\.html\.j2"):
        read_panel(panel)
    (tmp_path / "panel.html.j2").write_text("{{ facts.name }} {% if %}")
    with pytest.raises(PluginError, match="no usable"):
        read_panel(panel)
    (tmp_path / "panel.html.j2").write_text("<b>{{ facts.name }}</b>")
    with pytest.raises(PluginError, match=r"lacks panel\.js, about"):
        read_panel(panel)
    (tmp_path / "panel.js").write_text("export default () => {}")
    for language in ("en", "zh"):
        (tmp_path / f"{language}.toml").write_text('title = "T"\nabout = "A"')
    assert "<script" not in read_panel(panel).html("en")


def test_home_shows_the_gate_with_the_teacher_beside() -> None:
    gate = gate_of(facts_of(inspecting_files()), own_catalogues()["en"])
    first = gate.first[0]
    assert (first.name, first.student.value, first.student.interval) == ("Accuracy", "97.5%", "95.3% – 98.7%")
    assert first.teacher is not None
    assert (first.teacher.value, gate.kept, gate.outcome) == ("97.8%", "99.7%", GATE["outcome"])
    assert first.teacher.low < first.teacher.at < first.teacher.high <= 1
    assert len(gate.first) + len(gate.more) == len(REFERENCE["metrics"])
    assert [figure.teacher for figure in (*gate.first, *gate.more)][1:] == [None, None, None]
    assert not gate_of(
        facts_of(inspecting_files().__class__({**inspecting_files().data, "gate": b"{}"})), own_catalogues()["en"]
    ).outcome


# --- figures -----------------------------------------------------------------------------------------------------


def test_figures_are_what_happened_in_points_of_five_seconds() -> None:
    clock = Clock()
    figures = Figures(clock)
    for status, seconds in ((200, 0.010), (200, 0.010), (500, 0.1), (503, 0.001), (404, 0.01)):
        figures.answered(status, seconds, waiting=3)
    clock.now += 5
    figures.answered(200, 0.02, waiting=0)
    assert figures.series(1)["total"] == 5  # the point under way is left out
    clock.now += 5
    found = figures.series(1)
    assert {len(found[name]) for name in ("at", "requests", "errors", "refused", "p50_ms", "p95_ms", "queue")} == {12}
    assert found["requests"][-2:] == [1.0, 0.2]
    assert (found["errors"][-2], found["refused"][-2], found["queue"][-2]) == (0.2, 0.2, 3)
    assert found["p50_ms"][-2] == pytest.approx(10, rel=0.08)
    assert found["p95_ms"][-2] == pytest.approx(100, rel=0.08)
    assert found["p50_ms"][0] is None
    clock.now += SECONDS
    assert figures.series(15)["total"] == 0


def test_the_route_counts_inferences_and_not_those_who_look(server: Running) -> None:
    with server.client("operate") as client:
        for _ in range(3):
            client.get("/console")
            client.get("/healthz")
        before = client.get("/site/figures").json()
        assert before["step"] == 5
        assert client.get("/site/figures", params={"minutes": 99}).status_code == 422
