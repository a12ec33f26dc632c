"""What a site sends back to the lab: samples of its review set, with what people said of them, as one folder.

returned.dsse     the list of samples, signed by the site's key: each one's id, size and SHA-256
parcels/<id>      a sample with its label, encrypted for the lab's key alone

Names in the folder are never used as paths: the signed list says what is read. Knows nothing of training data's layout.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from toolkit.errors import EnvironmentUnfit, IntegrityError, UsageError
from toolkit.seal.canonical import HEX_DIGEST, TIME, Fields, decode, utc_now
from toolkit.seal.envelope import open_document, sign_document
from toolkit.seal.files import read_small
from toolkit.seal.keyfile import RecipientKey
from toolkit.seal.parcel import pack, unpack
from toolkit.seal.recipient import Recipient
from toolkit.services import Seen
from toolkit.site.layout import Site
from toolkit.site.review import ReviewSet
from toolkit.workspace import write_file

FORMAT = "distil-returned/1"
KIND = "returned"
LIST, PARCELS = "returned.dsse", "parcels"
MAX_LIST = 16 * 2**20
MAX_PARCEL = 512 * 2**20
MOST = 50_000


@dataclass(frozen=True)
class Returned:
    """A sample as it comes back. `label` is what a person says is right; empty where nobody said it.

    `agree` is None where no person has looked. `content` is of a picture its file, of a text its row as JSON.
    """

    id: str
    task: str
    product: str
    bundle: str
    kind: str
    verdict: str
    label: str
    agree: bool | None
    note: str
    content: bytes


@dataclass(frozen=True)
class Sent:
    """An export: how many samples, of which how many a person has judged, and the SHA-256 of the signed list."""

    samples: int
    judged: int
    digest: str


def send(site: Site, review: ReviewSet, to: Recipient, folder: Path, *, judged_only: bool = False) -> Sent:
    """Write the review set into `folder`, readable for `to` alone; the site's trail says so.

    Raises:
        UsageError: the folder exists, nothing is to be sent, or the site's keys are locked.
    """
    if folder.exists():
        raise UsageError(f"{folder} exists", hint="Name a folder that does not exist yet.")
    chosen = [one for one in review.entries() if one.held and (one.agree is not None or not judged_only)][:MOST]
    if not chosen:
        raise UsageError("the review set has nothing to send", hint="See: toolkit review list.")
    keys, aside = site.recipient_keys(), folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    listed: list[dict[str, Any]] = []
    for entry in chosen:
        _, seen, said = review.open(entry.id, keys)
        if seen is None:
            continue
        label = "" if said is None else seen.verdict if said.agree else said.label
        returned = Returned(
            entry.id, entry.task, entry.product, entry.bundle, seen.kind, seen.verdict, label,
            said.agree if said else None, said.note if said else "", b"",
        )  # fmt: skip
        parcel = pack(_packed(returned, seen), to, kind=KIND, name=entry.id)
        write_file(aside / PARCELS / entry.id, parcel)
        listed.append({"id": entry.id, "size": len(parcel), "sha256": hashlib.sha256(parcel).hexdigest()})
    payload = {
        "format": FORMAT, "critical": [], "recipient": to.fingerprint, "time": utc_now(), "samples": listed
    }  # fmt: skip
    data = sign_document(payload, kind=KIND, signer=site.signer())
    write_file(aside / LIST, data)
    digest = hashlib.sha256(data).hexdigest()
    details = {"samples": len(listed), "recipient": to.fingerprint, "digest": digest}
    site.audit.append("review.sent", details)
    try:
        os.rename(aside, folder)
    except OSError as error:
        raise EnvironmentUnfit(
            f"cannot write {folder}: {error.strerror}", hint="Check free space and rights."
        ) from error
    return Sent(len(listed), sum(one.agree is not None for one in chosen), digest)


@dataclass(frozen=True)
class Opened:
    """A folder that came back: `signer` is the site's key that signed its list."""

    folder: Path
    signer: str
    time: str
    parcels: tuple[tuple[str, int, str], ...]

    def samples(self, keys: tuple[RecipientKey, ...]) -> Iterator[Returned]:
        """Each sample, decrypted with the key it was sent to. Raises IntegrityError, UsageError."""
        for identity, size, sha256 in self.parcels:
            part = f"{PARCELS}/{identity}"
            data = read_small(self.folder / part, size, what="parcel")
            if len(data) != size or hashlib.sha256(data).hexdigest() != sha256:
                raise IntegrityError(f"{part} is not the one that was signed", part=part, hint="Copy it again.")
            yield _unpacked(unpack(data, keys, kind=KIND, name=identity), identity)


def receive(folder: Path, signer: str | None = None) -> Opened:
    """Check the signed list in `folder`.

    Args:
        signer: the site's key that must have signed, as `toolkit audit head` prints it; None takes any, and then it is
            only known that nothing was altered since.

    Raises:
        UsageError: no such folder. IntegrityError: altered, or signed by another.
    """
    data = read_small(folder / LIST, MAX_LIST, what="list of returned samples")
    named = signer if signer is not None else _stated_signer(data)
    document = open_document(data, kind=KIND, signers=(named,), part=LIST, limit=MAX_LIST)
    document.fields.header(FORMAT)
    parcels = document.fields.records("samples", _listed, most=MOST)
    return Opened(folder, document.signer, document.fields.text("time", TIME), tuple(parcels))


def _stated_signer(data: bytes) -> str:
    """Who says to have signed; whether it is so is checked with it."""
    envelope = Fields(decode(data, part=LIST, limit=MAX_LIST), LIST)
    (key,) = envelope.records("signatures", lambda fields: fields.text("keyid"), most=1) or ("",)
    return key


def _listed(fields: Fields) -> tuple[str, int, str]:
    return (
        fields.text("id", r"[0-9a-f]{16}"), fields.integer("size", low=1, high=MAX_PARCEL),
        fields.text("sha256", HEX_DIGEST),
    )  # fmt: skip


def _packed(returned: Returned, seen: Seen) -> bytes:
    """A line of JSON, and the content behind it."""
    head = {name: value for name, value in asdict(returned).items() if name not in ("id", "content")}
    return json.dumps(head, ensure_ascii=False).encode() + b"\n" + seen.content


def _unpacked(data: bytes, identity: str) -> Returned:
    head, _, content = data.partition(b"\n")
    try:
        return Returned(id=identity, content=content, **json.loads(head))
    except (ValueError, TypeError) as error:
        raise IntegrityError(f"sample {identity} cannot be read", part=identity) from error
