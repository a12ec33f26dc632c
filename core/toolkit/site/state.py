"""SITE/current: which versions are served, which are kept, and the high-water marks, signed by the site's key.

One file, replaced as one: a crash leaves the old state or the new one. Knows no rule for changing it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from toolkit.errors import IntegrityError
from toolkit.seal.canonical import HEX_DIGEST, NAME, Fields
from toolkit.seal.envelope import Signer, open_document, sign_document
from toolkit.seal.files import read_small
from toolkit.seal.manifest import Manifest
from toolkit.seal.validity import as_text, read_time, wall_clock
from toolkit.workspace import write_file

FORMAT = "distil-site/3"
BEFORE = "distil-site/2"
"""One `current` for the whole site; read, and written anew as FORMAT with the next change."""
KIND = "site-state"
MAX_STATE = 256 * 1024
ALL = 1000
"""Every request, in thousandths."""


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
    def number(self) -> str:
        """As people and clients name it."""
        return f"{self.epoch}.{self.counter}"

    @property
    def rank(self) -> tuple[int, int]:
        return self.epoch, self.counter


@dataclass(frozen=True)
class Pin:
    """A version of a file in trust/ and its SHA-256; version 0 where there is none."""

    version: int = 0
    sha256: str = ""


@dataclass(frozen=True)
class Served:
    """What answers for a product: `bundle_id`, and on trial beside it `canary`, a bundle id or '', which answers
    `permille` of a thousand requests."""

    product: str
    bundle_id: str
    canary: str = ""
    permille: int = 0


@dataclass(frozen=True)
class Failure:
    """A kept version that a server took back by itself, and why."""

    bundle_id: str
    why: str


@dataclass(frozen=True)
class State:
    """`served` has each product once, in the order in which they came; `kept` are the versions one may roll back to,
    newest install first, `failed` those of them that a server took back, `marks` the highest version of each product
    ever installed, `seen` the latest time the site knows of, in seconds since 1970; `root` and `revoked` are the trust
    root and the revocation list that count."""

    served: tuple[Served, ...] = ()
    kept: tuple[Version, ...] = ()
    failed: tuple[Failure, ...] = ()
    marks: tuple[Version, ...] = ()
    seen: int = 0
    root: Pin = Pin()
    revoked: Pin = Pin()

    @property
    def current(self) -> str:
        """The bundle id of the first product's version, or ''."""
        return self.served[0].bundle_id if self.served else ""

    def find(self, bundle_id: str) -> Version | None:
        """The kept version of this id."""
        return next((version for version in self.kept if version.bundle_id == bundle_id), None)

    def of(self, product: str) -> Served | None:
        """What answers for a product."""
        return next((served for served in self.served if served.product == product), None)

    def serving(self, served: Served) -> State:
        """The state in which `served` answers for its product; what it names has not failed, as far as is known."""
        known = self.of(served.product) is not None
        changed = tuple(served if one.product == served.product else one for one in self.served)
        named = (served.bundle_id, served.canary)
        return replace(
            self, served=changed if known else (*changed, served),
            failed=tuple(one for one in self.failed if one.bundle_id not in named),
        )  # fmt: skip

    def mark(self, product: str) -> Version | None:
        """The highest version of a product that was ever installed here."""
        return next((mark for mark in self.marks if mark.product == product), None)


def versions_of(state: State) -> list[dict[str, Any]]:
    """The products of a site as records: `product`, `serving` (a bundle id) and `versions`, those that answer first;
    each with `bundle`, `version`, `state` (serving, canary, kept or failed, that with `why`) and its `share`."""
    failed = {one.bundle_id: one.why for one in state.failed}
    records = []
    for served in state.served:
        versions = []
        for version in state.kept:
            if version.product != served.product:
                continue
            shares = {served.bundle_id: ALL - served.permille, served.canary: served.permille}
            states = {served.bundle_id: "serving", served.canary: "canary"}
            why = failed.get(version.bundle_id)
            versions.append({
                "bundle": version.bundle_id,
                "version": version.number,
                "state": states.get(version.bundle_id, "kept" if why is None else "failed"),
                "share": shares.get(version.bundle_id, 0) / ALL,
                **({} if why is None else {"why": why}),
            })  # fmt: skip
        order = {"serving": 0, "canary": 1}
        versions.sort(key=lambda one: order.get(str(one["state"]), 2))
        records.append({"product": served.product, "serving": served.bundle_id, "versions": versions})
    return records


def write_state(path: Path, state: State, signer: Signer) -> None:
    """Replace the state, with the time if that is later than any seen before; flushed when this returns."""
    seen = as_text(max(state.seen, wall_clock()))
    payload = {"format": FORMAT, "critical": []} | asdict(state) | {"seen": seen}
    write_file(path, sign_document(payload, kind=KIND, signer=signer))


def read_state(path: Path, key_id: str) -> State:
    """The state, once its signature by the site's key held."""
    data = read_small(path, MAX_STATE, what="site state")
    document = open_document(data, kind=KIND, signers=(key_id,), part="current", limit=MAX_STATE)
    fields = document.fields
    old = fields.values.get("format") == BEFORE
    fields.header(BEFORE if old else FORMAT)
    kept = fields.records("kept", _version, most=256)
    state = State(
        served=_served_before(fields, kept) if old else fields.records("served", _served, most=64),
        kept=kept,
        failed=() if old else fields.records("failed", _failure, most=256),
        marks=fields.records("marks", _version, most=1024),
        seen=read_time(fields, "seen"),
        root=fields.record("root", _pin),
        revoked=fields.record("revoked", _pin),
    )
    _check_served(state)
    return state


def _check_served(state: State) -> None:
    """What is served is kept, under its own product, and each product is there once."""
    for served in state.served:
        for bundle_id in filter(None, (served.bundle_id, served.canary)):
            version = state.find(bundle_id)
            if version is None or version.product != served.product:
                raise IntegrityError("the site's state names a current version that it does not keep", part="current")
    if len({served.product for served in state.served}) != len(state.served):
        raise IntegrityError("the site's state names a product twice", part="current")


def _served_before(fields: Fields, kept: tuple[Version, ...]) -> tuple[Served, ...]:
    current = fields.text("current", f"({NAME})?")
    product = next((version.product for version in kept if version.bundle_id == current), "")
    return (Served(product, current),) if current else ()


def _served(fields: Fields) -> Served:
    return Served(
        product=fields.text("product", NAME),
        bundle_id=fields.text("bundle_id", NAME),
        canary=fields.text("canary", f"({NAME})?"),
        permille=fields.integer("permille", high=1000),
    )


def _failure(fields: Fields) -> Failure:
    return Failure(fields.text("bundle_id", NAME), fields.text("why"))


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
