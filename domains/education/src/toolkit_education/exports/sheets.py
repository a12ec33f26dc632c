"""A printable sheet: problems with room to answer, and the answer key on a page of its own.

One HTML file that needs nothing else: no script, no font, no picture, no network, and a policy in it that says so.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

from toolkit_education.exports.items import Item, checked, lines, one_line, unit
from toolkit_education.exports.words import Words, words
from toolkit_education.numerals import show

_PAGE = """<!DOCTYPE html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
@page {{ size: A4; margin: 18mm 16mm; }}
body {{ font: 12pt/1.5 "Noto Sans", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif; color: #000;
  background: #fff; max-width: 178mm; margin: 0 auto; }}
h1 {{ font-size: 18pt; margin: 0 0 4mm; }}
.who {{ display: flex; gap: 12mm; margin: 0 0 8mm; }}
.who span {{ flex: 1; border-bottom: 0.3mm solid #000; }}
ol {{ padding-left: 9mm; margin: 0; }}
li {{ margin: 0 0 7mm; break-inside: avoid; }}
p {{ margin: 0 0 1mm; }}
.room {{ height: 22mm; }}
.answer {{ display: inline-block; min-width: 45mm; border-bottom: 0.3mm solid #000; }}
.key {{ break-before: page; }}
.key li {{ margin: 0 0 4mm; }}
.step {{ margin-left: 4mm; }}
.tag {{ font-size: 9pt; color: #444; }}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p class="who"><span>{name}:</span><span>{date}:</span></p>
<ol>
{problems}
</ol>
</main>
<section class="key">
<h1>{key}</h1>
<ol>
{answers}
</ol>
</section>
</body>
</html>
"""


def sheet(items: Sequence[Item], title: str = "", language: str = "") -> str:
    """The items as a sheet, numbered in their order. `language` is that of the headings, the first item's by default.

    Raises:
        DataError: no items, or the same one twice, or a language that no export speaks.
    """
    language = language or checked(items)[0].language
    said = words(language)
    return _PAGE.format(
        language=language,
        title=html.escape(one_line(title) or said.sheet),
        name=said.name,
        date=said.date,
        key=said.key,
        problems="\n".join(_problem(item, said, language) for item in checked(items)),
        answers="\n".join(_answer(item, said, language) for item in items),
    )


def _problem(item: Item, said: Words, language: str) -> str:
    measure = html.escape(unit(item))
    return (
        f"<li{_spoken(item, language)}>{_paragraphs(item.problem)}"
        f'<div class="room"></div><p>{said.answer}: <span class="answer"></span> {measure}</p></li>'
    )


def _answer(item: Item, said: Words, language: str) -> str:
    measure = html.escape(unit(item))
    tag = html.escape(f"{one_line(item.skill)}, {said.level.format(level=item.level)}")
    steps = _paragraphs("\n".join(item.steps), ' class="step"')
    value = f"<strong>{html.escape(show(item.answer, item.language))}</strong>"
    return f'<li{_spoken(item, language)}><p>{value} {measure} <span class="tag">{tag}</span></p>{steps}</li>'


def _spoken(item: Item, language: str) -> str:
    """The language of an item where it is another than the sheet's: it decides which glyphs a browser takes."""
    known = item.language if words(item.language) else ""
    return "" if known == language else f' lang="{known}"'


def _paragraphs(text: str, more: str = "") -> str:
    return "".join(f"<p{more}>{html.escape(line)}</p>" for line in lines(text))
