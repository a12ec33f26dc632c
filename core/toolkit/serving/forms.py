"""Files of a multipart/form-data body, taken apart in RAM.

Starlette's own form parser spools uploads to disk; a customer's picture must not touch it.
"""

from __future__ import annotations

from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from toolkit.errors import DataError

_HINT = "Send multipart/form-data with one or more files."


@dataclass(frozen=True)
class Upload:
    """One file of a form: the field it came in, and its bytes."""

    field: str
    data: bytes


def read_uploads(content_type: str, body: bytes, *, most: int) -> list[Upload]:
    """The parts of a form that are files, in their order; text fields are passed over.

    Raises:
        DataError: not a well-formed form, or more than `most` parts.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise DataError("the form's Content-Type names no boundary", hint=_HINT)
    parts = _Parts(most)
    try:
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": parts.begin,
                "on_header_field": parts.header_name,
                "on_header_value": parts.header_value,
                "on_header_end": parts.header_end,
                "on_part_data": parts.content,
                "on_part_end": parts.end,
                "on_end": parts.finish,
            },
        )
        parser.write(body)
    except FormParserError as error:
        raise DataError(f"the form is not well-formed: {error}", hint=_HINT) from error
    if not parts.finished:
        raise DataError("the form ends in the middle", hint=_HINT)
    return parts.uploads


class _Parts:
    """Gathers what the parser tells, part by part."""

    def __init__(self, most: int) -> None:
        self.uploads: list[Upload] = []
        self.finished = False
        self._left = most
        self._name = self._value = self._disposition = b""
        self._data: list[bytes] = []

    def begin(self) -> None:
        if not self._left:
            raise DataError("the form has too many parts", hint="Send fewer pictures at a time.")
        self._left -= 1
        self._name = self._value = self._disposition = b""
        self._data = []

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name = self._value = b""

    def content(self, data: bytes, start: int, end: int) -> None:
        self._data.append(data[start:end])

    def end(self) -> None:
        options = parse_options_header(self._disposition.decode("latin-1"))[1]
        if b"filename" in options:
            self.uploads.append(Upload(options.get(b"name", b"").decode("utf-8", "replace"), b"".join(self._data)))

    def finish(self) -> None:
        self.finished = True
