"""What was asked and answered, where a site keeps it: each exchange a parcel for the site's own key, by the hour.

SITE/inferences/content/<hour>/<id> is named, with its SHA-256, by its line in the trail of inferences. Whole hours are
removed, the oldest first.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.errors import EnvironmentUnfit, IntegrityError, UsageError
from toolkit.seal.keyfile import RecipientKey
from toolkit.seal.parcel import pack, unpack
from toolkit.seal.recipient import load_recipient
from toolkit.site.inference_chain import FOLDER
from toolkit.site.settings import InferenceSettings

CONTENT = "content"
KIND = "inference"

_PLACE = re.compile(r"[0-9]{10}/[0-9a-f]{16}")
_HOUR = re.compile(r"[0-9]{10}")


@dataclass(frozen=True)
class Body:
    """A request's or an answer's body and its media type."""

    media_type: str
    data: bytes


class Contents:
    """The contents that the site in `site` keeps."""

    def __init__(self, site: Path, *, keep_bytes: int, keep_days: int) -> None:
        self._folder, self._recipient = site / FOLDER / CONTENT, site / "recipient.json"
        self._keep_bytes, self._keep_days = keep_bytes, keep_days

    def keep(self, asked: Body, answered: Body) -> dict[str, str]:
        """Write an exchange down; what its line in the trail says of it.

        Raises:
            EnvironmentUnfit: it cannot be written.
        """
        place = f"{time.strftime('%Y%m%d%H', time.gmtime())}/{secrets.token_hex(8)}"
        head = {"asked": [asked.media_type, len(asked.data)], "answered": [answered.media_type, len(answered.data)]}
        data = json.dumps(head).encode() + b"\n" + asked.data + answered.data
        parcel = pack(data, load_recipient(self._recipient), kind=KIND, name=place)
        path = self._folder / place
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(parcel)
        except OSError as error:
            raise EnvironmentUnfit(
                f"cannot write {path}: {error.strerror}", hint="Check free space and rights."
            ) from error
        return {"place": place, "sha256": hashlib.sha256(parcel).hexdigest()}

    def open(self, line: Mapping[str, Any], keys: Iterable[RecipientKey]) -> tuple[Body, Body]:
        """What was asked and answered, by its line in the trail.

        Raises:
            UsageError: it was not kept, or no longer is. IntegrityError: it is not what the trail says.
        """
        kept = line.get("content") or {}
        place = str(kept.get("place", ""))
        if not _PLACE.fullmatch(place):
            raise UsageError("the content of this request was not kept", hint="[inferences] content = true keeps it.")
        try:
            parcel = (self._folder / place).read_bytes()
        except FileNotFoundError as error:
            raise UsageError(
                "the content of this request was removed", hint="[inferences] keeps it for longer."
            ) from error
        if hashlib.sha256(parcel).hexdigest() != kept.get("sha256"):
            raise IntegrityError(f"{place} is not what the trail says", part=f"{FOLDER}/{CONTENT}/{place}")
        head, _, rest = unpack(parcel, keys, kind=KIND, name=place).partition(b"\n")
        told = json.loads(head)
        size = int(told["asked"][1])
        return Body(told["asked"][0], rest[:size]), Body(told["answered"][0], rest[size:])

    def clear(self) -> None:
        """Remove the oldest hours where they are too much or too old; never the one at hand."""
        oldest = time.strftime("%Y%m%d%H", time.gmtime(time.time() - self._keep_days * 86_400))
        now = time.strftime("%Y%m%d%H", time.gmtime())
        try:
            hours = sorted(name for name in os.listdir(self._folder) if _HOUR.fullmatch(name))
        except FileNotFoundError:
            return
        sizes = {hour: _size(self._folder / hour) for hour in hours}
        for hour in hours:
            if hour < now and (hour < oldest or sum(sizes.values()) > self._keep_bytes):
                shutil.rmtree(self._folder / hour, ignore_errors=True)
                del sizes[hour]


def kept_contents(site: Path, settings: InferenceSettings) -> Contents:
    """The contents of the site in `site`, within its bounds."""
    return Contents(site, keep_bytes=settings.content_mb * 1_000_000, keep_days=settings.keep_days)


def _size(folder: Path) -> int:
    total = 0
    with contextlib.suppress(FileNotFoundError):
        for item in os.scandir(folder):
            with contextlib.suppress(FileNotFoundError):
                total += item.stat().st_size
    return total
