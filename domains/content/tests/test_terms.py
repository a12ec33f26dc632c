"""Terms that may not leave, however they are disguised; and the same words where they are allowed. Self-made, after the
law and the enforcement guide that the lexicons name: 200 violations, none of which may pass, and 200 allowed uses."""

from __future__ import annotations

import itertools
import time
import tomllib
from pathlib import Path

import pytest

from toolkit.errors import DataError
from toolkit_content.terms import Scanner, lexicon_of, load_lexicon

WORDS = tomllib.loads((Path(__file__).parent / "terms.toml").read_text(encoding="utf-8"))
CARRIERS = {
    "zh": ("这款保温杯{}，适合上班族。", "新品到货：{}，欢迎选购。", "说明：{}。"),
    "en": ("This flask comes {}, in blue.", "New: {}. Have a look.", "Please note: {}!"),
}


def spread(word: str) -> str:
    """With a mark between its characters."""
    return "·".join(word)


def hidden(word: str) -> str:
    """With characters that nobody sees."""
    return "\u200b".join(word)


def wide(word: str) -> str:
    return "".join(chr(ord(one) + 0xFEE0) if "!" <= one <= "~" else one for one in word)


def traditional(word: str) -> str:
    import opencc

    return str(opencc.OpenCC("s2t").convert(word))


def sounded(word: str) -> str:
    """Its first character as it is spoken."""
    import pypinyin

    return str(pypinyin.lazy_pinyin(word[0])[0]) + word[1:]


ZH_DISGUISES = (spread, hidden, traditional, sounded)
EN_DISGUISES = (str.upper, wide, hidden, lambda word: word.replace(" ", "  "))


def violations() -> list[str]:
    found = []
    for language, words, disguises in (
        ("zh", WORDS["zh_banned"], ZH_DISGUISES),
        ("en", WORDS["en_banned"], EN_DISGUISES),
    ):
        carriers, tricks = itertools.cycle(CARRIERS[language]), itertools.cycle(disguises)
        for word in words:
            found.append(next(carriers).format(word))
            found.append(next(carriers).format(next(tricks)(word)))
    return found


def allowed() -> list[str]:
    zh = [carrier.format(use) for use in WORDS["zh_allowed"] for carrier in CARRIERS["zh"]]
    return zh + [carrier.format(use) for use in WORDS["en_allowed"] for carrier in CARRIERS["en"]]


@pytest.fixture(scope="module")
def scanner() -> Scanner:
    return Scanner([load_lexicon("zh-advertising"), load_lexicon("en-advertising")])


def blocks(scanner: Scanner, text: str) -> bool:
    return any(hit.term.severity == "block" for hit in scanner.scan(text))


def test_none_of_two_hundred_violations_passes(scanner: Scanner) -> None:
    found = violations()
    assert len(found) == len(set(found)) == 200
    assert [text for text in found if not blocks(scanner, text)] == []


def test_of_two_hundred_allowed_uses_next_to_none_is_refused(scanner: Scanner) -> None:
    found = allowed()
    assert len(found) == len(set(found)) >= 200
    assert len([text for text in found if blocks(scanner, text)]) <= len(found) * 0.02


@pytest.mark.parametrize("word", [*WORDS["disguised"], *WORDS["no_exception"]])
def test_neither_a_disguise_nor_an_exception_lets_a_term_out(scanner: Scanner, word: str) -> None:
    assert blocks(scanner, f"新品：{word}。")


@pytest.mark.parametrize("use", [*WORDS["zh_allowed"], *WORDS["en_allowed"]])
def test_an_everyday_use_is_not_refused(scanner: Scanner, use: str) -> None:
    assert not blocks(scanner, f"说明：{use}。")


def test_a_superlative_that_no_list_names_is_for_a_person_to_see(scanner: Scanner) -> None:
    assert all([hit.term.severity for hit in scanner.scan(word)] == ["review"] for word in WORDS["superlatives"])
    assert not any(scanner.scan(word) for word in WORDS["no_superlatives"])


def test_what_a_brand_does_not_want_is_blocked_where_a_lexicon_would_allow_it() -> None:
    scanner = Scanner([load_lexicon("en-advertising")], never=["best"])
    assert blocks(scanner, "best before March")


def test_a_hit_says_where_it_stands_in_the_text_as_it_was_written(scanner: Scanner) -> None:
    text = "Ｎew：最\u200b佳 選擇, the WORLD’S best? the World's  Best!"
    hits = scanner.scan(text)
    assert [text[slice(*hit.span)] for hit in hits] == ["最\u200b佳", "WORLD’S best", "World's  Best"] or [
        text[slice(*hit.span)] for hit in hits
    ] == ["最\u200b佳", "best", "World's  Best"]
    assert hits[0].disguise == "spaced"


@pytest.mark.parametrize(
    "text",
    [
        "我们认为最。佳能相机",
        "unbeatables",
        "subrevolutionary",
        "他说：最，佳句",
        "This is it. World. Class begins",
        "绝对值",
        "",
    ],
)
def test_what_only_looks_like_a_term_is_none(scanner: Scanner, text: str) -> None:
    assert not blocks(scanner, text)


def test_a_brands_own_name_is_no_term_and_its_unwanted_words_are() -> None:
    lexicon = load_lexicon("zh-advertising")
    assert blocks(Scanner([lexicon]), "至尊电器")
    assert not blocks(Scanner([lexicon], names=["至尊电器"]), "至尊电器新品")
    assert blocks(Scanner([lexicon], names=["至尊电器"]), "至尊电器，至尊之选")
    assert blocks(Scanner([lexicon], never=["便宜货"]), "这不是便宜货")


def test_the_gravest_of_overlapping_terms_counts_once(scanner: Scanner) -> None:
    (hit,) = scanner.scan("本店销量第一")
    assert (hit.term.term, hit.term.severity) == ("销量第一", "block")


def test_every_term_has_its_reason_and_source() -> None:
    for name in ("zh-advertising", "en-advertising"):
        lexicon = load_lexicon(name)
        assert all(term.because and term.source for term in lexicon.terms)
        assert len({term.term for term in lexicon.terms}) == len(lexicon.terms)
        alone = Scanner([lexicon])
        assert all(blocks(alone, term.term) for term in lexicon.terms if term.severity == "block")


def test_a_page_of_text_is_read_in_milliseconds(scanner: Scanner) -> None:
    page = "这款保温杯采用食品级304不锈钢内胆，容量500毫升，保温12小时。It keeps tea warm for twelve hours. " * 40
    scanner.scan(page)
    started = time.perf_counter()
    scanner.scan(page)
    assert time.perf_counter() - started < 0.5


HEAD = 'name = "x"\nlanguage = "en"\nversion = "1"\n[[group]]\nbecause = ""\nsource = ""\n'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name = 3",
        HEAD + 'severity = "loud"\nterms = ["a"]',
        HEAD + 'severity = "block"\nterms = ["..."]',
        HEAD + 'severity = "block"\nterms = ["a"]\n[group.allow]\nb = ["c"]',
        HEAD + 'severity = "block"\nterms = ["a"]\n[group.allow]\na = ["("]',
    ],
)
def test_a_lexicon_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        lexicon_of(text)


def test_a_lexicon_that_is_not_there_is_named() -> None:
    with pytest.raises(DataError, match="no lexicon nowhere"):
        load_lexicon("nowhere")
