"""A QTI 3.0 package: a zip with imsmanifest.xml and one text-entry item a file.

1EdTech, "Question and Test Interoperability (QTI) 3.0", final, 2022-05-01: Assessment, Section and Item information
model, and its content packaging. The answer is a string, and every form of it that counts is in a mapping: QTI cannot
read 3/4 as a number, and players that read floats take "3/4" for 3 and "12 or 5" for 12 (measured with Cito's). The
worked solution is feedback that is shown after an answer.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

from toolkit_education.exports.items import Item, checked, keys, lines, one_line, unit
from toolkit_education.exports.words import words

ITEM = "http://www.imsglobal.org/xsd/imsqtiasi_v3p0"
PACKAGE = "http://www.imsglobal.org/xsd/qti/qtiv3p0/imscp_v1p1"
SCHEMAS = "https://purl.imsglobal.org/spec/qti/v3p0/schema/xsd/"
INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
MOMENT = (1980, 1, 1, 0, 0, 0)
"""Of every file in the zip: the same items give the same bytes."""


def qti_package(items: Sequence[Item]) -> bytes:
    """The items as a QTI 3.0 package, in their order. The same items give the same bytes.

    Raises:
        DataError: no items, or the same one twice, or a language that no export speaks.
    """
    files = {f"items/{identifier(item)}.xml": qti_item(item) for item in checked(items)}
    manifest = _manifest([identifier(item) for item in items])
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in {"imsmanifest.xml": manifest, **files}.items():
            package.writestr(zipfile.ZipInfo(name, MOMENT), content, zipfile.ZIP_DEFLATED)
    return made.getvalue()


def identifier(item: Item) -> str:
    """A name that XML, zip and file systems take, from the item's id alone: an id may hold anything."""
    return "item-" + hashlib.sha256(item.id.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def qti_item(item: Item) -> bytes:
    """One assessment item, XML in UTF-8.

    Raises:
        DataError: a language that no export speaks.
    """
    said, right = words(item.language), keys(item)
    root = _root(
        "qti-assessment-item", ITEM, "imsqti_asiv3p0_v1p0.xsd", "identifier", identifier(item),
        {"title": one_line(item.id), "adaptive": "false", "time-dependent": "false", "xml:lang": item.language},
    )  # fmt: skip
    _declare(root, right)
    body = ET.SubElement(root, "qti-item-body")
    for line in lines(item.problem):
        ET.SubElement(body, "p").text = line
    entry = ET.SubElement(body, "p")
    entry.text = f"{said.answer}: "
    ET.SubElement(
        entry, "qti-text-entry-interaction",
        {"response-identifier": "RESPONSE", "expected-length": str(max(8, len(right[0]) + 2))},
    ).tail = " " + unit(item)  # fmt: skip
    _process(root, feedback=bool(item.steps))
    if item.steps:
        feedback = ET.SubElement(
            root, "qti-modal-feedback",
            {"outcome-identifier": "FEEDBACK", "show-hide": "show", "identifier": "SOLUTION", "title": said.solution},
        )  # fmt: skip
        content = ET.SubElement(feedback, "qti-content-body")
        for line in lines("\n".join(item.steps)):
            ET.SubElement(content, "p").text = line
    return _written(root)


def _declare(root: ET.Element, right: Sequence[str]) -> None:
    kind = {"identifier": "RESPONSE", "cardinality": "single", "base-type": "string"}
    response = ET.SubElement(root, "qti-response-declaration", kind)
    ET.SubElement(ET.SubElement(response, "qti-correct-response"), "qti-value").text = right[0]
    mapping = ET.SubElement(response, "qti-mapping", {"default-value": "0", "upper-bound": "1"})
    for form in right:
        ET.SubElement(mapping, "qti-map-entry", {"map-key": form, "mapped-value": "1", "case-sensitive": "false"})
    score = {"identifier": "SCORE", "cardinality": "single", "base-type": "float", "normal-maximum": "1"}
    default = ET.SubElement(ET.SubElement(root, "qti-outcome-declaration", score), "qti-default-value")
    ET.SubElement(default, "qti-value").text = "0"
    feedback = {"identifier": "FEEDBACK", "cardinality": "single", "base-type": "identifier"}
    ET.SubElement(root, "qti-outcome-declaration", feedback)


def _process(root: ET.Element, *, feedback: bool) -> None:
    """No answer is no point: some players break on a mapping of nothing. Otherwise the mapping says."""
    processing = ET.SubElement(root, "qti-response-processing")
    condition = ET.SubElement(processing, "qti-response-condition")
    empty = ET.SubElement(condition, "qti-response-if")
    ET.SubElement(ET.SubElement(empty, "qti-is-null"), "qti-variable", identifier="RESPONSE")
    _base(_set(empty, "SCORE"), "float", "0")
    given = ET.SubElement(condition, "qti-response-else")
    ET.SubElement(_set(given, "SCORE"), "qti-map-response", identifier="RESPONSE")
    if feedback:
        _base(_set(processing, "FEEDBACK"), "identifier", "SOLUTION")


def _set(parent: ET.Element, outcome: str) -> ET.Element:
    return ET.SubElement(parent, "qti-set-outcome-value", identifier=outcome)


def _base(parent: ET.Element, kind: str, value: str) -> None:
    ET.SubElement(parent, "qti-base-value", {"base-type": kind}).text = value


def _manifest(identifiers: Sequence[str]) -> bytes:
    whole = hashlib.sha256("\n".join(identifiers).encode()).hexdigest()[:32]
    root = _root("manifest", PACKAGE, "imsqtiv3p0_imscpv1p2_v1p0.xsd", "identifier", f"manifest-{whole}", {})
    metadata = ET.SubElement(root, "metadata")
    ET.SubElement(metadata, "schema").text = "QTI Package"
    ET.SubElement(metadata, "schemaversion").text = "3.0.0"
    ET.SubElement(root, "organizations")
    resources = ET.SubElement(root, "resources")
    for one in identifiers:
        place = {"identifier": one, "type": "imsqti_item_xmlv3p0", "href": f"items/{one}.xml"}
        ET.SubElement(ET.SubElement(resources, "resource", place), "file", href=f"items/{one}.xml")
    return _written(root)


def _root(name: str, space: str, schema: str, key: str, value: str, more: Mapping[str, str]) -> ET.Element:
    """The root of a document: its namespace and where its schema is, then the rest."""
    spaces = {"xmlns": space, "xmlns:xsi": INSTANCE, "xsi:schemaLocation": f"{space} {SCHEMAS}{schema}"}
    return ET.Element(name, {**spaces, key: value, **more})


def _written(root: ET.Element) -> bytes:
    found: bytes = ET.tostring(root, encoding="UTF-8", xml_declaration=True)
    return found
