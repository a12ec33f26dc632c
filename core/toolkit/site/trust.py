"""What a site trusts, changed: a newer root, a newer revocation list, a new key to receive with.

Files bear their version in their name and the signed state says which one counts, so a change happened or did not. The
first root stays: `verify_site` follows the chain from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from toolkit.errors import IntegrityError, Refused, ToolkitError
from toolkit.seal.custody import alike
from toolkit.seal.keyfile import create_recipient_key
from toolkit.seal.recipient import Recipient, load_recipient
from toolkit.seal.revocation import LIST, RevokedList, parse_list
from toolkit.seal.trust import TrustRoot, parse_trust
from toolkit.seal.validity import wall_clock
from toolkit.site.clock import Clock, check_list
from toolkit.site.layout import Site, open_site, recipient_path
from toolkit.site.state import Pin, read_state, write_state
from toolkit.workspace import flush_folder, write_file


@dataclass(frozen=True)
class Accepted:
    """A root or list that the site trusts. `changed` is False where it did already."""

    version: int
    sha256: str
    changed: bool


def accept_root(site: Site, data: bytes) -> Accepted:
    """Trust a newer root.json from now on.

    Raises:
        IntegrityError: not signed by a threshold of the old root's keys and of its own.
        Refused: its version is lower than that of the root trusted now.
    """

    def read(now: Site) -> Pin:
        new = parse_trust(data)
        if new.digest != now.trust.digest:
            now.trust.check_successor(new)
        return Pin(new.version, new.digest)

    return _accept(site, "root", data, read)


def accept_list(site: Site, data: bytes) -> Accepted:
    """Trust a newer revocation list from now on. What it revokes opens no more, and stops being served.

    Raises:
        IntegrityError: not signed by the revocation role of the root trusted now.
        Refused: its version is lower than that of the list known already, or its end has passed.
    """

    def read(now: Site) -> Pin:
        known = now.trust.revoked
        if known is not None and known.data == data:
            return Pin(known.version, known.digest)
        new = parse_list(data, now.trust.revokers)
        _check_newer(new, known)
        check_list(new, Clock(wall_clock(), max(read_state(now.current, now.key_id).seen, new.issued)))
        return Pin(new.version, new.digest)

    return _accept(site, "revoked", data, read)


def rotate_recipient(site: Site) -> Recipient:
    """A new key pair to receive with. The one before stays, to open what is installed, until the next rotation.

    A rotation that was cut short is taken up by the next call.
    """
    with site.lock("rotate the recipient key"):
        old, new = recipient_path(site.path), recipient_path(site.path, "new")
        if not new.exists() and (old.exists() or not recipient_path(site.path, "old").exists()):
            create_recipient_key(new, "recipient", alike(site.passphrase, site.custody))
        if new.exists():
            if old.exists():
                old.replace(recipient_path(site.path, "old"))
            new.replace(old)
            flush_folder(old.parent)
        name = load_recipient(site.recipient_json).name
        made = Recipient.of(site.recipient_keys()[0], name)
        site.audit.append("recipient.begin", {"recipient": made.fingerprint})
        write_file(site.recipient_json, made.as_bytes())
        site.audit.append("recipient.done", {"recipient": made.fingerprint})
    return made


def check_chain(site: Site, first_sha256: str) -> None:
    """Follow the roots from the first one that the site pinned to the one it trusts now, each signed by the one before.

    Raises:
        IntegrityError: a link is missing or does not hold.
    """
    folder = site.path / "trust"
    paths = sorted(folder.glob("root-*.json"), key=lambda path: path.name)
    first = parse_trust((folder / "root.json").read_bytes())
    if first.digest != first_sha256:
        raise IntegrityError("trust/root.json is not the one the site was made with", part="trust/root.json")
    trust: TrustRoot = first
    for new in sorted((parse_trust(path.read_bytes()) for path in paths), key=lambda root: root.version):
        if new.version <= site.trust.version:
            trust.check_successor(new)
            trust = new
    if trust.digest != site.trust.digest:
        raise IntegrityError("the site trusts a root that does not follow from its first", part="trust/root.json")


def _check_newer(new: RevokedList, known: RevokedList | None) -> None:
    if known is not None and new.version < known.version:
        raise Refused(
            f"{LIST} is version {new.version}, older than version {known.version} that is known here",
            hint="Ask the publisher for the newest one.",
        )
    if known is not None and new.version == known.version:
        raise IntegrityError(
            f"{LIST} has version {new.version} as the one known here, and other content", part=LIST,
            hint="Two lists must not share a version: ask the publisher which one is real.",
        )  # fmt: skip


def _accept(site: Site, what: str, data: bytes, read: Callable[[Site], Pin]) -> Accepted:
    with site.lock(f"trust another {what}"):
        now, state = open_site(site.path, site.passphrase), read_state(site.current, site.key_id)
        try:
            pin = read(now)
        except ToolkitError as error:
            site.audit.append(f"{what}.refused", {"code": error.code, "message": str(error)[:500]})
            raise
        known = state.root if what == "root" else state.revoked
        if pin == known:
            return Accepted(pin.version, pin.sha256, changed=False)
        facts = {"version": pin.version, "sha256": pin.sha256}
        site.audit.append(f"{what}.begin", facts)
        _clear_newer(site, what, known)
        write_file(site.path / "trust" / f"{what}-{pin.version}.json", data)
        new = replace(state, root=pin) if what == "root" else replace(state, revoked=pin)
        write_state(site.current, new, site.signer())
        site.audit.append(f"{what}.done", facts)
    return Accepted(pin.version, pin.sha256, changed=True)


def _clear_newer(site: Site, what: str, known: Pin) -> None:
    """Remove what a killed call wrote and the state never named: it must not become a link of the chain."""
    for path in (site.path / "trust").glob(f"{what}-*.json"):
        number = path.stem.rpartition("-")[2]
        if not number.isdecimal() or int(number) > known.version:
            path.unlink()
