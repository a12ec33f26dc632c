"""Exports are read back by other programs' readers, and the answers compared: gift-pegjs, lxml, html.parser."""

from __future__ import annotations

import functools
import html
import io
import json
import math
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path

import pytest
from lxml import etree

from toolkit.errors import DataError
from toolkit_education.exports.gift import gift
from toolkit_education.exports.items import clean, forms, keys, lines, one_line
from toolkit_education.exports.moodle_xml import moodle_xml
from toolkit_education.exports.qti import ITEM, identifier, qti_item, qti_package
from toolkit_education.exports.sheets import sheet
from toolkit_education.exports.words import asked
from toolkit_education.items import Item
from toolkit_education.marking import mark

SCHEMAS = Path(__file__).parent / "schemas"
GIFT_PARSER = "gift-pegjs@1.0.2"
QTI_PLAYER = ("@citolab/qti-components@7.27.4", "happy-dom@21.0.4")
SAFE = etree.XMLParser(resolve_entities=False, no_network=True)


@dataclass(frozen=True)
class Plain:
    """The fields that an export sees."""

    id: str = "item-1"
    skill: str = "addition"
    level: int = 2
    language: str = "en"
    problem: str = "Ann has 5 apples and buys 7. How many has she now?"
    steps: tuple[str, ...] = ("5 + 7 = 12",)
    answer: Fraction = Fraction(12)
    unit: str = "apples"


HOSTILE = (
    "a = b ~ c # d { e } f : g \\ h",
    "::title:: {=right ~wrong} #### {#5} -> $CATEGORY: x",
    "\\n \\= \\\\ \\{ &&058; &&010;",
    "// a comment\n\n$CATEGORY: top\n\n::x::[html]y{T}",
    "<script>alert(1)</script><b onload='x'>&amp; &lt; &#60; ]]> <!-- --> <?php ?>",
    "\"quoted\" 'single' `back` %s {0} {{x}} ${y}",
    "first line\r\nsecond line\rthird\u2028fourth\x0bfifth\x0csixth",
    "\x00\x01\x08\x1b[31m\ufffe\ud800 bidi \u202e\u2066end\u2069",
    "小明有 3 个苹果；“多”少？《书》—— ½ ¾ π ≤ 😀 ﬁ e\u0301",
    "</p></li></ol></section></body></html>",
    "]]></qti-item-body><qti-response-processing/>",
    "../../etc/passwd\\..\\x /abs [id:other] [tag:x] ]",
)
"""Each goes into every text field."""

WHOLE = ("12", "0", "-3", "1200000")
BROKEN = ("3/4", "-3/4", "7/2", "-5/2", "1/3", "-22/7", "1/8", "2.05", "1/101", "99/7")
ANSWERS = tuple(Fraction(text) for text in (*WHOLE, *BROKEN))


def hostile() -> list[Plain]:
    """One item a text and a field, and one with the text in all of them; half of them in Chinese."""
    made = []
    for number, text in enumerate(HOSTILE):
        plain = replace(Plain(), language=("en", "zh")[number % 2], answer=ANSWERS[number % len(ANSWERS)])
        everywhere = replace(plain, id=f"{number} {text}", skill=text, problem=text, steps=(text, text), unit=text)
        made += [
            replace(plain, id=f"{number}p", problem=text),
            replace(plain, id=f"{number}s", steps=("1 + 1 = 2", text)),
            replace(plain, id=f"{number}u", unit=text),
            replace(plain, id=f"{number}k", skill=text),
            everywhere,
        ]
    return made


def answers() -> list[Plain]:
    """One item an answer, with and without unit and steps."""
    made = [replace(Plain(), id=f"answer {number}", answer=answer) for number, answer in enumerate(ANSWERS)]
    return [*(replace(item, unit="", steps=()) for item in made[::2]), *made[1::2]]


def wrong(answer: Fraction) -> list[str]:
    """What nobody may be given a point for."""
    near = [answer + 1, answer - 1, answer * 10, -answer if answer else Fraction(1)]
    near += [answer + Fraction(1, 1000)] + ([1 / answer] if answer and answer not in (1, -1) else [])
    return [str(value) for value in near if value != answer] + ["", "x", f"1{answer}", f"{answer}1", f"{answer} or 5"]


@functools.cache
def relaxng(name: str) -> etree.RelaxNG:
    return etree.RelaxNG(etree.parse(SCHEMAS / name))


def installed(folder: Path, *packages: str) -> str:
    """node, with these packages of npm in `folder`; the test is skipped where they cannot be had."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        pytest.skip(f"node and npm are not on this machine, so there is no {packages[0]}")
    command = [npm, "install", "--no-audit", "--no-fund", "--fetch-retries=0", "--prefix", str(folder), *packages]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not answer in a minute, so there is no {packages[0]}")
    if done.returncode:
        pytest.skip(f"npm could not install {packages[0]}: {done.stderr.strip()[-200:]}")
    return node


@pytest.fixture(scope="session")
def parse_gift(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[dict[str, object]]]:
    """GIFT read by gift-pegjs, the grammar that editors of it use."""
    folder = tmp_path_factory.mktemp("gift")
    node = installed(folder, GIFT_PARSER)
    script = (
        "const chunks = []; process.stdin.on('data', c => chunks.push(c)); process.stdin.on('end', () => "
        "console.log(JSON.stringify(require('gift-pegjs').parse(Buffer.concat(chunks).toString('utf8')))));"
    )

    def parse(text: str) -> list[dict[str, object]]:
        read = subprocess.run(
            [node, "-e", script], input=text.encode(), capture_output=True, cwd=folder, timeout=60, check=False
        )
        assert read.returncode == 0, read.stderr.decode()[-2000:]
        found: list[dict[str, object]] = json.loads(read.stdout)
        return found

    return parse


def squeezed(text: str) -> str:
    return " ".join(text.split())


def parted(text: str) -> str:
    """What GIFT cannot say: Moodle takes &&058; for a colon that it has set aside."""
    return text.replace("&&058;", "& &058;").replace("&&010;", "& &010;")


# ---- the forms of an answer


@pytest.mark.parametrize("answer", ANSWERS)
def test_every_form_is_exactly_the_answer_and_no_wrong_one_is_a_form(answer: Fraction) -> None:
    for form in forms(answer):
        sign = -1 if form.startswith("-") else 1
        parts = [Fraction(part.replace(",", "")) for part in form.lstrip("+-").split(" ")]
        assert sign * sum(parts) == answer, form
    assert not set(wrong(answer)) & set(forms(answer))


def test_the_forms_that_learners_write_are_there_the_usual_one_first() -> None:
    assert forms(Fraction(12)) == ("12", "12.0", "12.00", "+12", "+12.0", "+12.00")
    assert "1,200,000" in forms(Fraction(1200000))
    assert forms(Fraction(0)) == ("0", "0.0", "0.00")
    assert forms(Fraction(3, 4))[:4] == ("0.75", ".75", "3/4", "6/8")
    assert forms(Fraction(7, 2))[:3] == ("3.5", "7/2", "3 1/2")
    assert forms(Fraction(-1, 2))[:3] == ("-0.5", "-.5", "-1/2")
    assert forms(Fraction(1, 3))[:3] == ("1/3", "2/6", "3/9")
    assert forms(Fraction(41, 20))[0] == "2.05"
    assert "100/200" not in forms(Fraction(1, 2))
    assert all(len(forms(answer)) <= 40 for answer in ANSWERS)


@pytest.mark.parametrize(
    ("item", "right", "not_right"),
    [
        (
            Plain(skill="fraction_simplification", answer=Fraction(3, 4), unit=""),
            ["3/4"],
            ["0.75", "12/16", "6/8", ".75"],
        ),
        (Plain(skill="fraction_simplification", answer=Fraction(5, 4), unit=""), ["5/4", "1 1/4"], ["1.25", "10/8"]),
        (
            Plain(answer=Fraction(53, 5), unit="$"),
            ["10.60", "10.6", "$10.60", "$10.6", "10.60 dollars"],
            ["10.06", "€10.6"],
        ),
        (Plain(answer=Fraction(53, 5), unit="元", language="zh"), ["10.60", "10.6元", "10.60 元"], ["10.6角"]),
        (
            Plain(answer=Fraction(3, 2), unit="m"),
            ["1.5", "1.5 m", "1.5m", "1.5 meters", "3/2 m", "1 1/2"],
            ["1.5 cm", "1.50 kg"],
        ),
        (Plain(answer=Fraction(3, 2), unit="m2", language="zh"), ["1.5平方米", "1.5 m²"], ["1.5米"]),
    ],
)
def test_the_keys_of_an_item_are_what_the_tutor_takes(item: Plain, right: list[str], not_right: list[str]) -> None:
    found = keys(item)
    assert set(right) <= set(found)
    assert not set(not_right) & set(found)
    own = Item("i", "m", item.skill, 2, item.language, "", "How much?", (), item.answer, item.unit, {}, (), "hand")
    for form in found:
        assert mark(own, form).verdict.startswith("right"), form
    for form in not_right:
        assert not mark(own, form).verdict.startswith("right"), form


@pytest.mark.parametrize(("language", "name"), [("en", "(Answer in km/h.)"), ("zh", "（单位：千米/时）")])
def test_a_unit_is_shown_by_its_name(language: str, name: str) -> None:
    item = replace(Plain(), unit="km_per_hour", language=language)
    assert asked(item).endswith(name)
    for made in (gift([item]), moodle_xml([item]).decode(), qti_item(item).decode(), sheet([item])):
        assert "km_per_hour" not in made
        assert {"en": "km/h", "zh": "千米/时"}[language] in made


# ---- GIFT


@pytest.mark.parametrize("items", [answers(), hostile()], ids=["answers", "hostile"])
def test_gift_is_read_back_by_its_parser_with_the_same_answers(
    parse_gift: Callable[[str], list[dict[str, object]]], items: list[Plain]
) -> None:
    found = parse_gift(gift(items))
    assert len(found) == len(items)
    for item, question in zip(items, found, strict=True):
        assert squeezed(str(question["title"])) == parted(one_line(item.id))
        stem = question["stem"]
        assert stem["format"] == "plain"  # type: ignore[index]
        assert squeezed(stem["text"]) == parted(squeezed(asked(item)))  # type: ignore[index]
        assert question["hasEmbeddedAnswers"] is False
        if item.answer.denominator == 1:
            assert question["type"] == "Numerical"
            assert question["choices"] == {"type": "simple", "number": int(item.answer)}
        else:
            assert question["type"] in ("Short", "MC")  # several right ones and no wrong one: Moodle's short answer
            choices = question["choices"]
            assert [one["text"]["text"] for one in choices] == list(keys(item))  # type: ignore[union-attr,index]
            assert all(one["isCorrect"] for one in choices)  # type: ignore[union-attr]
        feedback = question["globalFeedback"]
        steps = parted(squeezed(" ".join(clean(step) for step in item.steps)))
        assert squeezed(feedback["text"] if feedback else "") == steps  # type: ignore[index]
        assert set(question["tags"]) == {  # type: ignore[arg-type]
            one_line(item.skill).replace("[", "(").replace("]", ")"), f"level {item.level}"
        }  # fmt: skip


def test_gift_has_one_paragraph_a_question_and_no_line_of_an_items_own() -> None:
    text = gift(hostile())
    paragraphs = text.rstrip("\n").split("\n\n")
    assert len(paragraphs) == len(hostile())
    for paragraph in paragraphs:
        comment, question = paragraph.split("\n")
        assert comment.startswith("// [id:")
        assert question.startswith("::")
        assert question.endswith("}")


def test_gift_that_is_not_escaped_would_be_seen(parse_gift: Callable[[str], list[dict[str, object]]]) -> None:
    """The check can fail: the same item with one backslash less is another question, or none."""
    item = replace(Plain(), problem="Is {=wrong} 5 ~ 7?")
    text = gift([item])
    broken = text.replace("\\{\\=", "{=")
    assert broken != text
    try:
        (question,) = parse_gift(broken)
    except (AssertionError, ValueError):
        return
    assert squeezed(question["stem"]["text"]) != squeezed(asked(item))  # type: ignore[index]


# ---- Moodle XML


@pytest.mark.parametrize("items", [answers(), hostile()], ids=["answers", "hostile"])
def test_moodle_xml_is_read_back_with_the_same_text_and_answers(items: list[Plain]) -> None:
    quiz = etree.fromstring(moodle_xml(items, "Grade 5 / 小学"), SAFE)
    category, *questions = quiz.findall("question")
    assert category.get("type") == "category"
    assert category.findtext("category/text") == "$course$/top/Grade 5 // 小学"
    assert len(questions) == len(items)
    for item, question in zip(items, questions, strict=True):
        whole = item.answer.denominator == 1
        assert question.get("type") == ("numerical" if whole else "shortanswer")
        assert question.findtext("name/text") == one_line(item.id)
        assert question.findtext("idnumber") == one_line(item.id)[:100]
        text = question.find("questiontext")
        assert text.get("format") == "html"
        assert shown(text.findtext("text")) == lines(asked(item))
        assert shown(question.findtext("generalfeedback/text")) == lines("\n".join(item.steps))
        rows = question.findall("answer")
        assert {row.get("fraction") for row in rows} == {"100"}
        given = [row.findtext("text") for row in rows]
        assert given == ([str(int(item.answer))] if whole else list(keys(item)))
        assert all((row.findtext("tolerance") == "0") == whole for row in rows)
        assert "*" not in "".join(given)  # Moodle's wildcard
        assert [tag.text for tag in question.findall("tags/tag/text")] == [
            one_line(item.skill) or None, f"level {item.level}"
        ]  # fmt: skip


def shown(markup: str | None) -> list[str]:
    """The paragraphs that a browser shows; anything but <p> is an error."""
    tree = etree.fromstring(f"<div>{markup or ''}</div>", SAFE)
    assert {element.tag for element in tree.iter()} <= {"div", "p"}
    return ["".join(element.itertext()) for element in tree]


def test_moodle_xml_without_a_category_has_none() -> None:
    quiz = etree.fromstring(moodle_xml([Plain()]), SAFE)
    assert [question.get("type") for question in quiz] == ["numerical"]


# ---- QTI


@pytest.mark.parametrize("items", [answers(), hostile()], ids=["answers", "hostile"])
def test_a_qti_package_holds_what_its_manifest_says_and_both_keep_the_schema(items: list[Plain]) -> None:
    with zipfile.ZipFile(io.BytesIO(qti_package(items))) as package:
        names, files = package.namelist(), {name: package.read(name) for name in package.namelist()}
    manifest = etree.fromstring(files["imsmanifest.xml"], SAFE)
    relaxng("qti3-manifest.rng").assertValid(manifest)
    hrefs = [resource.get("href") for resource in manifest.iter("{*}resource")]
    assert hrefs == [file.get("href") for file in manifest.iter("{*}file")]
    assert names == ["imsmanifest.xml", *hrefs]
    assert all(
        name == "imsmanifest.xml" or name.removeprefix("items/").removesuffix(".xml").isascii() for name in names
    )
    assert not any(".." in name or "\\" in name or name.startswith("/") for name in names)
    for item, href in zip(items, hrefs, strict=True):
        root = etree.fromstring(files[href], SAFE)
        relaxng("qti3-item.rng").assertValid(root)
        assert root.get("identifier") == identifier(item)
        body = root.find("{*}qti-item-body")
        assert ["".join(p.itertext()) for p in body][:-1] == lines(item.problem)
        assert squeezed("".join(body[-1].itertext())).endswith(one_line(item.unit))
        steps = [p.text for p in root.iterfind("{*}qti-modal-feedback/{*}qti-content-body/{*}p")]
        assert steps == lines("\n".join(item.steps))


class Player:
    """QTI's response processing, as far as these items use it, written from the specification and not from ours."""

    def __init__(self, document: bytes) -> None:
        self.root = etree.fromstring(document, SAFE)
        (self.declared,) = self.root.iterfind(f"{{{ITEM}}}qti-response-declaration")

    def score(self, typed: str) -> tuple[float, str | None]:
        self.outcomes: dict[str, object] = {"SCORE": 0.0, "FEEDBACK": None}
        assert self.declared.get("base-type") == "string"
        self.response = typed.strip() or None
        for element in self.root.find(f"{{{ITEM}}}qti-response-processing"):
            self.do(element)
        return float(self.outcomes["SCORE"]), self.outcomes["FEEDBACK"]  # type: ignore[arg-type,return-value]

    def do(self, element: etree._Element) -> None:
        match etree.QName(element).localname:
            case "qti-set-outcome-value":
                self.outcomes[element.get("identifier")] = self.value(element[0])
            case "qti-response-condition":
                for branch in element:
                    otherwise = etree.QName(branch).localname == "qti-response-else"
                    if otherwise or self.value(branch[0]) is True:
                        for inner in branch[0 if otherwise else 1 :]:
                            self.do(inner)
                        return
            case name:
                raise AssertionError(name)

    def value(self, element: etree._Element) -> object:
        match etree.QName(element).localname:
            case "qti-variable":
                return self.response
            case "qti-is-null":
                return self.value(element[0]) is None
            case "qti-base-value":
                return float(element.text) if element.get("base-type") == "float" else element.text
            case "qti-map-response":
                mapping = self.declared.find("{*}qti-mapping")
                entries = {entry.get("map-key").casefold(): float(entry.get("mapped-value")) for entry in mapping}
                found = entries.get(str(self.response).casefold(), float(mapping.get("default-value")))
                return min(found, float(mapping.get("upper-bound", math.inf)))
            case name:
                raise AssertionError(name)


@pytest.mark.parametrize("item", answers(), ids=lambda item: str(item.answer))
def test_qti_gives_the_point_to_every_form_and_to_nothing_else(item: Plain) -> None:
    player = Player(qti_item(item))
    shown_after = "SOLUTION" if item.steps else None
    for right in (*keys(item), f" {keys(item)[0]} "):
        assert player.score(right) == (1.0, shown_after), right
    for typed in wrong(item.answer):
        assert player.score(typed) == (0.0, shown_after), typed


def test_a_qti_player_of_others_gives_the_same_points(tmp_path: Path) -> None:
    """Cito's player, which knows nothing of ours, scores every form and every wrong answer of every item."""
    node = installed(tmp_path, *QTI_PLAYER)
    shutil.copy(Path(__file__).parent / "qti_player.mjs", tmp_path)
    asked_of = [(item, list(keys(item))[:12], wrong(item.answer)) for item in answers()]
    cases = [{"xml": qti_item(item).decode(), "responses": rights + others} for item, rights, others in asked_of]
    command = [node, "qti_player.mjs"]
    read = subprocess.run(
        command, input=json.dumps(cases).encode(), capture_output=True, cwd=tmp_path, timeout=120, check=False
    )
    assert read.returncode == 0, read.stderr.decode()[-2000:]
    for (item, rights, others), row in zip(asked_of, json.loads(read.stdout), strict=True):
        solution = "SOLUTION" if item.steps else None
        points = ["1"] * len(rights) + ["0"] * len(others)
        assert row == [[point, solution] for point in points], item.answer


def test_a_qti_item_out_of_order_is_refused_by_the_schema() -> None:
    root = etree.fromstring(qti_item(Plain()), SAFE)
    root.append(root[0])
    assert not relaxng("qti3-item.rng").validate(root)
    root = etree.fromstring(qti_item(Plain()), SAFE)
    del root.attrib["time-dependent"]
    assert not relaxng("qti3-item.rng").validate(root)


def test_a_qti_package_is_the_same_bytes_each_time_and_its_names_come_from_the_id() -> None:
    assert qti_package(answers()) == qti_package(answers())
    assert identifier(Plain()) == identifier(replace(Plain(), problem="another"))
    assert len({identifier(item) for item in hostile()}) == len(hostile())


# ---- sheets


class Read(HTMLParser):
    """The elements and the text of a page, as an HTML reader sees them."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.style = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            self.style += data
        else:
            self.text.append(data)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("items", [answers(), hostile()], ids=["answers", "hostile"])
def test_a_sheet_shows_every_text_as_it_is_and_has_no_markup_but_its_own(items: list[Plain], language: str) -> None:
    page = sheet(items, HOSTILE[4], language)
    read = Read(page)
    text = squeezed("".join(read.text))
    for item in items:
        for line in lines("\n".join([item.problem, item.unit, *item.steps])):
            assert squeezed(line) in text
    own = {"html", "head", "meta", "title", "style", "body", "main", "section", "h1", "p", "ol", "li", "div", "span"}
    assert {tag for tag, _ in read.tags} <= own | {"strong"}
    assert {name for _, attrs in read.tags for name in attrs} <= {
        "lang", "charset", "http-equiv", "content", "name", "class"
    }  # fmt: skip
    assert sum(tag == "li" for tag, _ in read.tags) == 2 * len(items)


def test_a_sheet_keeps_its_answers_on_a_page_of_their_own_and_needs_no_network() -> None:
    items = [replace(Plain(), id="1", answer=Fraction(31337)), replace(Plain(), id="2", answer=Fraction(1, 3))]
    page = sheet(items)
    problems, key = page.split('<section class="key">')
    assert "31,337" not in html.unescape(problems)
    assert "5 + 7" not in problems.split("<main>")[1]
    assert "<strong>31,337</strong>" in key
    assert "<strong>1/3</strong>" in key
    read = Read(page)
    assert ".key { break-before: page; }" in read.style
    assert "default-src 'none'" in page
    assert not any(word in page for word in ("http://", "https://", "url(", "@import", "<script", "<link", "src="))


def test_a_chinese_sheet_speaks_chinese_and_marks_what_does_not() -> None:
    chinese = replace(Plain(), id="1", language="zh", problem="小明有 5 个苹果，又买了 7 个，共有几个？", unit="个")
    page = sheet([chinese, replace(Plain(), id="2")])
    assert '<html lang="zh">' in page
    assert page.count('<li lang="en">') == 2
    for word in ("练习", "参考答案", "姓名", "</span> 个</p>", "第 2 级"):
        assert word in page
    assert "Worksheet" not in page
    assert "Answer key" in sheet([Plain()])


# ---- all of them


@pytest.mark.parametrize("export", [gift, moodle_xml, qti_package, sheet])
def test_nothing_twice_the_same_and_unknown_languages_are_refused(export: Callable[[list[Plain]], object]) -> None:
    with pytest.raises(DataError, match="no items"):
        export([])
    with pytest.raises(DataError, match="twice"):
        export([Plain(), Plain()])
    with pytest.raises(DataError, match="speaks 'fr'"):
        export([replace(Plain(), language="fr")])


def test_clean_text_is_what_xml_allows() -> None:
    for text in HOSTILE:
        etree.Element("x").text = clean(text)  # raises on what XML forbids
        assert clean(clean(text)) == clean(text)
        clean(text).encode("utf-8")
    assert clean("a\r\nb\rc\u2028d") == "a\nb\nc\nd"
    assert clean("\u202ex\u2066y\x00\ud800") == "xy"
    assert one_line(" a\n\tb ") == "a b"
    assert clean("小明 😀 ½") == "小明 😀 ½"
