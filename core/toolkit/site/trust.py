"""What a site trusts, changed: a newer root, a newer revocation list, a new key to receive with.

Files bear their version in their name and the signed state says which one counts, so a change happened or did not. The
first root stays: `verify_site` follows the chain from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from toolkit.errors import IntegrityError, Refused, ToolkitError
from toolkit.seal.custody import access
from toolkit.seal.keyfile import create_recipient_key, load_recipient_key
from toolkit.seal.recipient import Recipient, load_recipient
from toolkit.seal.revocation import LIST, RevokedList, parse_list
from toolkit.seal.trust import TrustRoot, parse_trust, signed_by
from toolkit.seal.validity import wall_clock
from toolkit.site.clock import Clock, check_list
from toolkit.site.layout import Site, recipient_path
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
        IntegrityError: not signed by the revocation role of the root trusted now, or by a key that was revoked.
        Refused: its version is lower than that of the list known already, or its end has passed.
    """

    def read(now: Site) -> Pin:
        known = now.trust.revoked
        if known is not None and known.data == data:
            return Pin(known.version, known.digest)
        new = parse_list(data, now.trust.revokers)
        now.trust.check_revoked(*new.keys, part=LIST)
        if known is not None and signed_by(now.trust.revokers, known.keys):
            _check_newer(new, known)  # else a newer root has ended the key that signed it, whatever it says
        check_list(new, Clock(wall_clock(), max(read_state(now.current, now.key_id).seen, new.issued)))
        return Pin(new.version, new.digest)

    return _accept(site, "revoked", data, read)


def rotate_recipient(site: Site) -> Recipient:
    """A new key pair to receive with. The one before stays, to open what is installed, until the next rotation.

    A rotation that was cut short is taken up by the next call: what the trail has begun and not ended it finishes with
    the same key, and makes no other.

    Raises:
        UsageError, IntegrityError: the site's keys do not open; nothing was changed.
    """
    with site.held("rotate the recipient key") as site:
        own, old, new = (recipient_path(site.path, which) for which in ("", "old", "new"))
        site.signer()
        begun = _begun_rotation(site)
        if not begun:
            for path in (own, old):
                if path.exists():
                    load_recipient_key(path, "recipient", site.passphrase)
            new.unlink(missing_ok=True)  # of a call that was killed before it began
            by = replace(access(site.passphrase), custody=site.custody)
            begun = create_recipient_key(new, "recipient", by).fingerprint
            site.audit.append("recipient.begin", {"recipient": begun})
        if new.exists():
            if own.exists():
                own.replace(old)
            new.replace(own)
            flush_folder(own.parent)
        made = Recipient.of(site.recipient_key(), load_recipient(site.recipient_json).name)
        if made.fingerprint != begun:
            raise IntegrityError(
                f"the rotation that began with the key {begun[:16]} cannot be finished: it is not there",
                part=own.name, hint="Restore the site's folder keys/ from its backup.",
            )  # fmt: skip
        write_file(site.recipient_json, made.as_bytes())
        site.audit.append("recipient.done", {"recipient": made.fingerprint})
    return made


def _begun_rotation(site: Site) -> str:
    """The fingerprint of the key with which a rotation has begun that has not ended; '' where all have."""
    told = [one for one in site.audit.entries() if one.event.startswith("recipient.")]
    return str(told[-1].details["recipient"]) if told and told[-1].event == "recipient.begin" else ""


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


def _check_newer(new: RevokedList, known: RevokedList) -> None:
    if new.version < known.version:
        raise Refused(
            f"{LIST} is version {new.version}, older than version {known.version} that is known here",
            hint="Ask the publisher for the newest one.",
        )
    if new.version == known.version:
        raise IntegrityError(
            f"{LIST} has version {new.version} as the one known here, and other content", part=LIST,
            hint="Two lists must not share a version: ask the publisher which one is real.",
        )  # fmt: skip


def _accept(site: Site, what: str, data: bytes, read: Callable[[Site], Pin]) -> Accepted:
    with site.held(f"trust another {what}") as site:
        state = read_state(site.current, site.key_id)
        try:
            pin = read(site)
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
