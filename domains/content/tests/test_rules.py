"""Lengths, marks, personal data and copies: each against numbers worked out by hand."""

from __future__ import annotations

import json

import pytest

from toolkit.errors import DataError, IntegrityError, PlanError, Refused
from toolkit_content.channels import channel_named, channels_of, length, load_channels
from toolkit_content.checks import Checker, passes
from toolkit_content.copies import Copies
from toolkit_content.drafting import Brief
from toolkit_content.marking import check_export, is_visibly_marked, marked, rule_named
from toolkit_content.privacy import personal_data
from toolkit_content.products import Product
from toolkit_content.slots import load_pack
from toolkit_content.terms import Scanner, load_lexicon

PRODUCT = Product("k", {"brand": ("Nordal",), "category": ("kettle",)})
CHECKER = Checker(load_pack("household-en"), Scanner([load_lexicon("en-advertising")]))


@pytest.mark.parametrize(
    ("text", "unit", "units"),
    [
        ("abc", "grapheme", 3),
        ("👩‍🏫é", "grapheme", 2),
        ("👩‍🏫", "utf16", 5),
        ("价格99元", "gbk_byte", 8),
        ("😀", "gbk_byte", 2),
        ("two words", "word", 2),
        ("价a", "x_weight", 3),
        ("see https://example.org/a/long/one", "x_weight", 27),
    ],
)
def test_a_text_is_counted_in_the_channels_own_unit(text: str, unit: str, units: int) -> None:
    assert length(text, unit) == units


def test_speech_takes_its_time() -> None:
    assert length("一二三四五六七八九", "second", language="zh") == pytest.approx(2.0)
    assert length("one two three four five", "second", language="en") == pytest.approx(2.0)


def test_every_limit_says_where_it_was_read_and_when() -> None:
    channels = load_channels()
    limits = [limit for channel in channels.values() for limit in channel.limits.values()]
    assert all(limit.source and limit.checked_on and limit.most > 0 for limit in limits)
    assert channel_named(channels, "taobao").limits["title"].unit == "gbk_byte"
    with pytest.raises(PlanError, match="no channel is named amazn"):
        channel_named(channels, "amazn")


@pytest.mark.parametrize(
    "text", ["", "[channels.a]\nlanguage=['en']", "[channels.a]\nlanguage=['en']\n[channels.a.limits]\nx={most=1}"]
)
def test_channels_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(DataError):
        channels_of(text)


def test_an_unknown_unit_is_named() -> None:
    limit = 'x = { most = 1, unit = "line", source = "s", checked_on = "d", verified = false }'
    with pytest.raises(DataError, match="no unit is named line"):
        channels_of(f"[channels.a]\nlanguage=['en']\n[channels.a.limits]\n{limit}\n")


@pytest.mark.parametrize(
    ("text", "brief", "channel", "kinds"),
    [
        ("The Nordal kettle.", Brief(), "", []),
        ("The Nordal kettle.", Brief(must=("steel",), never=("Nordal",)), "", ["brand", "brand"]),
        ("The Nordal kettle. " * 20, Brief(form="post"), "x", ["length"]),
        ("The Nordal kettle.", Brief(form="script"), "x", ["length"]),
        ("The Nordal kettle.\n" * 6, Brief(form="bullets"), "amazon", ["length"]),
        (
            "The kettle, the world's best. Call 555-123-4567.",
            Brief(),
            "",
            ["attribute", "term", "attribute", "personal-data"],
        ),
    ],
)
def test_a_copy_is_checked_for_everything_at_once(text: str, brief: Brief, channel: str, kinds: list[str]) -> None:
    place = channel_named(load_channels(), channel) if channel else None
    found = CHECKER.findings(PRODUCT, text, brief, place)
    blocking = [one.kind for one in found if one.severity == "block"]
    assert sorted(set(blocking)) == sorted(set(kinds))
    assert passes(found) is not kinds or not kinds


PHONES = (
    "(555) 123-4567", "555-123-4567", "555.123.4567", "Call 5551234567", "+1 (555) 123-4567", "+44 7911 123456",
    "+49 30 901820", "+33 6 12 34 56 78", "06 12 34 56 78", "+8613812345678", "138 1234 5678", "138-1234-5678",
    "138\u200b12345678", "１３８１２３４５６７８", "0532-88888888", "电话88888888", "400-800-1234",
)  # fmt: skip
NO_PHONES = (
    "120-1500-2000 mm", "speeds of 100 300 1000 rpm", "steps 200 400 1000", "part no. 0445110311", "EAN 4006381333931",
    "ISBN 9780306406157", "Model 100-200-3000", "0.138 1234 5678", "-10 to +40 C", "a phone stand, 12 cm",
    "LEGO 10000 20000",
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("Mail a.b+c@example.co.uk now", ["mail address"]),
        ("电话 13812345678", ["telephone number"]),
        ("身份证 11010519491231002X", ["identity number"]),
        ("card 4111 1111 1111 1111", ["card number"]),
        ("It holds 1.7 L and 2200 W, 1234567890123", []),
        ("+49 30 1234567 rings", ["telephone number"]),
        ("call 020 7946 0958", ["telephone number"]),
        *((text, ["telephone number"]) for text in PHONES),
        *((text, []) for text in NO_PHONES),
        ("身份证 11010519491231002Ｘ", ["identity number"]),
        ("110105 19491231 002X", ["identity number"]),
        ("GB29 NWBK 6016 1331 9268 19", ["account number"]),
        ("DE89370400440532013000", ["account number"]),
        ("GB28 NWBK 6016 1331 9268 19", []),
        ("微信：abc12345", ["messenger name"]),
        ("加微信 abc12345", ["messenger name"]),
        ("QQ 123456789", ["messenger name"]),
        ("支持微信支付和QQ音乐", []),
        ("a＠b.com", ["mail address"]),
    ],
)
def test_personal_data_are_found(text: str, kinds: list[str]) -> None:
    assert [kind for kind, _ in personal_data(text)] == kinds


def test_near_copies_are_counted_by_runs_of_words() -> None:
    learnt = "one two three four five six seven eight nine ten"
    copies = Copies.of([learnt, "short"])
    assert copies.share(learnt) == copies.share("One  TWO three, four five six seven eight - nine ten!") == 1.0
    assert copies.share("one two three four five six seven eight NEW ten") == pytest.approx(1 / 3)
    assert copies.share("a text of other words that nobody has learnt so far") == copies.share("short") == 0.0
    again = Copies.from_bytes(copies.to_bytes())
    assert again.share(learnt) == 1.0
    assert b"seven" not in copies.to_bytes()
    with pytest.raises(IntegrityError):
        Copies.from_bytes(b"123")


@pytest.mark.parametrize(
    ("profile", "language", "words"),
    [("cn", "zh", "AI生成"), ("eu", "en", "AI-generated"), ("cn", "en", "AI-generated")],
)
def test_a_marked_text_may_be_handed_out_and_no_other(profile: str, language: str, words: str) -> None:
    rule = rule_named(profile)
    found = marked("Some copy.", rule, language=language, producer="desk", identity="b-1/abc")
    assert words in found.text
    assert is_visibly_marked(found.text, rule)
    record = json.loads(found.metadata["AIGC"])
    assert (record["Label"], record["ContentProducer"], record["ProduceID"]) == ("1", "desk", "b-1/abc")
    check_export(found.text, found.metadata, rule)
    assert marked(found.text, rule, language=language, producer="desk", identity="b-1/abc").text == found.text
    for text, metadata in (
        ("Some copy.", found.metadata),
        (found.text, {}),
        (found.text.replace("Some", "Other"), found.metadata),
        (found.text, {"AIGC": "{"}),
        (found.text, {"AIGC": '{"Label": "0", "ReservedCode1": ""}'}),
    ):
        with pytest.raises(Refused):
            check_export(text, metadata, rule)


def test_without_a_profile_nothing_is_asked_for() -> None:
    rule = rule_named("none")
    assert marked("x", rule, language="en", producer="p", identity="i") == marked(
        "x", rule, language="zh", producer="", identity=""
    )
    check_export("x", {}, rule)
    with pytest.raises(PlanError, match="no marking profile is named us"):
        rule_named("us")


@pytest.mark.parametrize("profile", ["cn", "eu"])
@pytest.mark.parametrize(
    "last",
    [
        "The world's best kettle, cures cancer. AI-generated",
        "Certainly not AI-generated!",
        "(AI-generated) and tested",
        "AI-generated",
        "(ai-generated)",
        "本文并非AI生成",
    ],
)
def test_only_the_label_itself_is_a_mark(profile: str, last: str) -> None:
    rule = rule_named(profile)
    found = marked("Some copy.", rule, language="en", producer="desk", identity="b-1/abc")
    with pytest.raises(Refused):
        check_export(f"Some copy.\n\n{last}", found.metadata, rule)


@pytest.mark.parametrize("text", ["A lamp for your desk.\n\nMakes AI-generated art glow.", "台灯。\n照亮AI生成的画。"])
def test_a_text_about_machines_is_marked_as_any_other(text: str) -> None:
    rule = rule_named("cn")
    found = marked(text, rule, language="zh", producer="desk", identity="b-1/abc")
    assert found.text == f"{text}\n\n（AI生成）"
    check_export(found.text, found.metadata, rule)


def test_a_whole_copy_is_not_served_and_some_of_one_is_told() -> None:
    learnt = " ".join(f"word{number}" for number in range(40))
    checker = Checker(CHECKER.pack, CHECKER.scanner, Copies.of([learnt]))

    def severities(text: str) -> list[str]:
        return [one.severity for one in checker.of_text(text) if one.kind == "copy"]

    assert severities(learnt) == ["block"]
    assert severities(learnt.replace("word30", "other")) == ["note"]
    assert severities("a text of other words that nobody has learnt so far") == []
