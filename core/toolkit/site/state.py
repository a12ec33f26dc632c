"""SITE/current: which version is served, which are kept, and the high-water marks, signed by the site's key.

One file, replaced as one: a crash leaves the old state or the new one. Knows no rule for changing it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from toolkit.errors import IntegrityError
from toolkit.seal.canonical import HEX_DIGEST, NAME, Fields
from toolkit.seal.envelope import Signer, open_document, sign_document
from toolkit.seal.files import read_small
from toolkit.seal.manifest import Manifest
from toolkit.seal.validity import as_text, read_time, wall_clock
from toolkit.workspace import write_file

FORMAT = "distil-site/2"
KIND = "site-state"
MAX_STATE = 256 * 1024


@dataclass(frozen=True)
class Version:
    """An installed bundle: (epoch, counter) orders it, `serial` is that of its grant."""

    bundle_id: str
    product: str
    epoch: int
    counter: int
    manifest_sha256: str
    serial: int

    @classmethod
    def of(cls, manifest: Manifest, serial: int) -> Version:
        return cls(
            manifest.bundle_id, manifest.product, manifest.epoch, manifest.counter, manifest.digest, serial
        )  # fmt: skip

    @property
    def rank(self) -> tuple[int, int]:
        return self.epoch, self.counter


@dataclass(frozen=True)
class Pin:
    """A version of a file in trust/ and its SHA-256; version 0 where there is none."""

    version: int = 0
    sha256: str = ""


@dataclass(frozen=True)
class State:
    """`current` is a bundle id or '', `kept` the versions one may roll back to, newest install first, `marks` the
    highest version of each product ever installed, `seen` the latest time the site knows of, in seconds since 1970;
    `root` and `revoked` are the trust root and the revocation list that count."""

    current: str = ""
    kept: tuple[Version, ...] = ()
    marks: tuple[Version, ...] = ()
    seen: int = 0
    root: Pin = Pin()
    revoked: Pin = Pin()

    def find(self, bundle_id: str) -> Version | None:
        """The kept version of this id."""
        return next((version for version in self.kept if version.bundle_id == bundle_id), None)

    def mark(self, product: str) -> Version | None:
        """The highest version of a product that was ever installed here."""
        return next((mark for mark in self.marks if mark.product == product), None)


def write_state(path: Path, state: State, signer: Signer) -> None:
    """Replace the state, with the time if that is later than any seen before; flushed when this returns."""
    seen = as_text(max(state.seen, wall_clock()))
    payload = {"format": FORMAT, "critical": []} | asdict(state) | {"seen": seen}
    write_file(path, sign_document(payload, kind=KIND, signer=signer))


def read_state(path: Path, key_id: str) -> State:
    """The state, once its signature by the site's key held."""
    data = read_small(path, MAX_STATE, what="site state")
    document = open_document(data, kind=KIND, signers=(key_id,), part="current", limit=MAX_STATE)
    document.fields.header(FORMAT)
    state = State(
        current=document.fields.text("current", f"({NAME})?"),
        kept=document.fields.records("kept", _version, most=64),
        marks=document.fields.records("marks", _version, most=1024),
        seen=read_time(document.fields, "seen"),
        root=document.fields.record("root", _pin),
        revoked=document.fields.record("revoked", _pin),
    )
    if state.current and state.find(state.current) is None:
        raise IntegrityError("the site's state names a current version that it does not keep", part="current")
    return state


def _pin(fields: Fields) -> Pin:
    return Pin(fields.integer("version"), fields.text("sha256", f"({HEX_DIGEST})?"))


def _version(fields: Fields) -> Version:
    return Version(
        bundle_id=fields.text("bundle_id", NAME),
        product=fields.text("product", NAME),
        epoch=fields.integer("epoch", low=1),
        counter=fields.integer("counter", low=1),
        manifest_sha256=fields.text("manifest_sha256", HEX_DIGEST),
        serial=fields.integer("serial", low=1),
    )
