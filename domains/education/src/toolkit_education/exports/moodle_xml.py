"""Moodle XML: one file of questions (docs.moodle.org, "Moodle XML format").

A whole answer is a numerical question of tolerance 0; any other is a short answer that lists its forms. Text is HTML
whose every character of an item is escaped, so that an item can bring no markup.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from toolkit_education.exports.items import Item, checked, keys, lines, one_line
from toolkit_education.exports.words import asked


def moodle_xml(items: Sequence[Item], category: str = "") -> bytes:
    """The items as Moodle XML in UTF-8, in their order. `category` is where Moodle files them, under the course's top.

    Raises:
        DataError: no items, or the same one twice.
    """
    quiz = ET.Element("quiz")
    if category := one_line(category):
        question = ET.SubElement(quiz, "question", type="category")
        # a slash parts categories, so one in a name is written twice
        _text(question, "category", "$course$/top/" + category.replace("/", "//"))
    for item in checked(items):
        _question(quiz, item)
    ET.indent(quiz)
    found: bytes = ET.tostring(quiz, encoding="UTF-8", xml_declaration=True)
    return found


def _question(quiz: ET.Element, item: Item) -> None:
    whole = item.answer.denominator == 1
    question = ET.SubElement(quiz, "question", type="numerical" if whole else "shortanswer")
    _text(question, "name", one_line(item.id))
    _text(question, "questiontext", _paragraphs(asked(item)), "html")
    _text(question, "generalfeedback", _paragraphs("\n".join(item.steps)), "html")
    ET.SubElement(question, "defaultgrade").text = "1"
    ET.SubElement(question, "penalty").text = "0.3333333"
    ET.SubElement(question, "hidden").text = "0"
    ET.SubElement(question, "idnumber").text = one_line(item.id)[:100]
    if not whole:
        ET.SubElement(question, "usecase").text = "0"
    for form in (str(item.answer.numerator),) if whole else keys(item):
        answer = ET.SubElement(question, "answer", fraction="100", format="moodle_auto_format")
        ET.SubElement(answer, "text").text = form
        if whole:
            ET.SubElement(answer, "tolerance").text = "0"
    if whole:
        ET.SubElement(question, "unitgradingtype").text = "0"
        ET.SubElement(question, "showunits").text = "3"  # no unit is asked for: the question says which one
    tags = ET.SubElement(question, "tags")
    for tag in (one_line(item.skill), f"level {item.level}"):
        _text(tags, "tag", tag)


def _text(parent: ET.Element, name: str, text: str, form: str = "") -> None:
    element = ET.SubElement(parent, name, {"format": form} if form else {})
    ET.SubElement(element, "text").text = text


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{html.escape(line)}</p>" for line in lines(text))
