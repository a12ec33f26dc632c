"""New keys in the place of old ones, and what the home revokes.

A rotated publisher's or issuer's old key stays in the root, for what it has signed; only a revocation ends it. A
root key and the key of the revocation list go: nothing that they signed is asked for again. The new root is signed by a
threshold of the old root keys and of the new. Where root keys lie elsewhere,
the new root waits as root.next.json until enough have signed. The payload of no bundle is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from toolkit.errors import UsageError, unknown_name
from toolkit.seal.custody import Access, Unlock, access, alike
from toolkit.seal.files import read_small
from toolkit.seal.keyfile import (
    ModelKey,
    SigningKey,
    create_model_key,
    create_signing_key,
    key_facts,
    load_signing_key,
)
from toolkit.seal.keys import LOCK_WAIT, ROOT, home_trust, key_path, root_paths
from toolkit.seal.revocation import LIST, Revocation, RevokedList, parse_list, sign_list
from toolkit.seal.suites import check_suite_name, cipher_of, name_of, suite_of
from toolkit.seal.trust import (
    MAX_ROOT,
    MAX_SIGNERS,
    TrustRoot,
    add_root_signature,
    load_trust,
    missing_signatures,
    parse_trust,
    root_payload,
    sign_root,
)
from toolkit.seal.validity import DAY, wall_clock
from toolkit.workspace import flush_folder, folder_lock, write_file

DRAFT = "root.next.json"
ROTATED = ("root", "publisher", "issuer", "revocation", "model")
MAX_DAYS = 3_660


@dataclass(frozen=True)
class NewRoot:
    """A root.json on its way: `missing` root keys must still sign it; with none missing it is the home's root."""

    path: Path
    trust: TrustRoot
    missing: int


def rotate(folder: Path, role: str, passphrase: Unlock, *, suite: str | None = None, key: str = "") -> NewRoot:
    """A new key for a role, and a root.json of the next version that names it.

    Args:
        role: one of ROTATED; `model` is the key of model.sig.
        suite: of the new key, and its cipher is allowed from then on; that of the old one where not given.
        key: which root key goes, by the beginning of its id; needed where several lie here.

    Raises:
        UsageError: no such role, suite or key, a rotation is under way, no root key lies here, or the role has as many
            keys as a root may name.
    """
    if role not in ROTATED:
        raise unknown_name("role", role, ROTATED)
    if suite is not None:
        check_suite_name(suite)
        access(passphrase).cipher(suite)
    if suite is not None and role == "model":
        raise UsageError("the key of model.sig is a P-256 key in every suite", hint="Leave out --suite.")
    with folder_lock(folder, purpose="rotate a key", wait=LOCK_WAIT):
        trust = home_trust(folder)
        if (folder / DRAFT).exists():
            raise UsageError(f"{folder / DRAFT} still waits for signatures", hint=f"toolkit keys sign {folder / DRAFT}")
        _finish(folder, trust)
        _check_room(trust, role)
        old_path = _root_path(folder, key) if role == "root" else key_path(folder, role)
        new_path = folder / "next" / old_path.name
        new_path.unlink(missing_ok=True)  # of a rotation that never came to its root.json
        # A home whose keys are older than model.sig has none for it; the new one is guarded as the publisher's.
        known = old_path if old_path.exists() or role != "model" else key_path(folder, "publisher")
        _, custody, old = key_facts(known)
        new = _new_key(new_path, role, alike(passphrase, custody), suite or suite_of(old))
        payload = _payload(trust, role, old, new.key_id, [cipher_of(suite)] if suite else [])
        signers = [*_root_keys(folder, passphrase), *([new] if isinstance(new, SigningKey) and role == "root" else [])]
        if not signers:
            raise UsageError(f"no root key lies in {folder}", hint="Bring one back for the rotation.")
        return _settle(folder, trust, sign_root(payload, signers))


def sign_draft(folder: Path, draft: Path, passphrase: Unlock) -> NewRoot:
    """Add the signatures of the root keys in `folder` to a root.json that waits for them, in its place.

    Where it is this home's own and nothing is missing, it becomes the home's root.

    Raises:
        UsageError: no root key lies here.
        IntegrityError, Refused: the draft is damaged, or no successor of the home's root.
    """
    with folder_lock(folder, purpose="sign a root", wait=LOCK_WAIT):
        data = read_small(draft, MAX_ROOT, what="new root")
        new = parse_trust(data, complete=False)
        trust = load_trust(folder / ROOT) if (folder / ROOT).exists() else None
        if trust is not None and new.digest != trust.digest:
            trust.check_newer(new)
        keys = [key for key in _root_keys(folder, passphrase) if key.key_id in (*new.roots, *(trust or new).roots)]
        for key in keys:
            data = add_root_signature(data, key)
        if not keys:
            raise UsageError(f"no root key of {draft} lies in {folder}", hint="Sign it where one does.")
        write_file(draft, data)
        if trust is not None and draft.resolve() == (folder / DRAFT).resolve():
            return _settle(folder, trust, data)
        new = parse_trust(data, complete=False)
        return NewRoot(draft, new, missing_signatures(new, trust or new))


def changes(old: TrustRoot, new: TrustRoot) -> list[str]:
    """What a new root says otherwise than the one before, a line each, for whoever signs it."""
    roles = {
        "root": "roots",
        "publisher": "publishers",
        "issuer": "issuers",
        "revocation": "revokers",
        "model": "models",
    }
    found = [] if old.threshold == new.threshold else [f"threshold: {old.threshold} becomes {new.threshold}"]
    for role, name in roles.items():
        before, after = set(getattr(old, name)), set(getattr(new, name))
        found += [f"{role}: {name_of(one)} comes" for one in sorted(after - before)]
        found += [f"{role}: {name_of(one)} goes" for one in sorted(before - after)]
    found += [f"suite: {one} comes" for one in sorted(set(new.suites) - set(old.suites))]
    return found


def revoke(
    folder: Path, entries: Sequence[Revocation], passphrase: Unlock, *, days: int = 90
) -> RevokedList:  # fmt: skip
    """Add to the home's revocation list and sign it for `days` more; without `entries` it is only renewed.

    Raises:
        UsageError: the end is out of range.
    """
    if not 1 <= days <= MAX_DAYS:
        raise UsageError(f"a list holds for 1 to {MAX_DAYS:,} days", hint="Give other --days.")
    with folder_lock(folder, purpose="revoke", wait=LOCK_WAIT):
        trust = home_trust(folder)
        known = trust.revoked
        merged = {entry.id: entry for entry in (*entries, *(known.entries if known else ()))}
        now = max(wall_clock(), known.issued if known else 0)
        data = sign_list(
            load_signing_key(key_path(folder, "revocation"), "revocation", passphrase),
            version=known.version + 1 if known else 1, issued=now, expires=now + days * DAY,
            entries=list(merged.values()),
        )  # fmt: skip
        made = parse_list(data, trust.revokers)
        write_file(folder / LIST, data)
    return made


def _new_key(path: Path, role: str, by: Access, suite: str) -> SigningKey | ModelKey:
    return create_model_key(path, by) if role == "model" else create_signing_key(path, role, by, suite)


def _root_path(folder: Path, key: str) -> Path:
    """The file of the root key that is meant."""
    ids = {path: name_of(key_facts(path)[2]) for path in root_paths(folder)}
    found = [path for path, key_id in ids.items() if key_id.startswith(key)]
    if len(found) == 1:
        return found[0]
    if not ids:
        raise UsageError(f"no root key lies in {folder}", hint="Bring one back for the rotation.")
    raise UsageError(
        "which root key is to go?" if len(found) > 1 else f"no root key here begins with {key[:64]}",
        hint=f"Name it by --key: {', '.join(one[:16] for one in ids.values())}.",
    )


def _check_room(trust: TrustRoot, role: str) -> None:
    """Refuse one key more than a root may name of a role whose old keys stay."""
    kept = {"publisher": trust.publishers, "issuer": trust.issuers, "model": trust.models}.get(role, ())
    if len(_unrevoked(trust, kept)) >= MAX_SIGNERS:
        raise UsageError(
            f"the root names {MAX_SIGNERS} keys for {role}, and that is the most",
            hint="Revoke those that nothing installed needs: toolkit keys revoke KEY. The next rotation drops them.",
        )


def _unrevoked(trust: TrustRoot, signers: Sequence[str]) -> list[str]:
    return [one for one in signers if name_of(one) not in trust.revoked_ids]


def _payload(trust: TrustRoot, role: str, old: str, new: str, ciphers: Sequence[str]) -> dict[str, object]:
    def with_new(mine: str, signers: tuple[str, ...]) -> list[str]:
        if mine != role:
            return list(signers)
        # A revoked one stays while there is room: a grant by it is passed over, and one by a stranger refused.
        return [new, *(signers if len(signers) < MAX_SIGNERS else _unrevoked(trust, signers))]

    def swapped(signers: tuple[str, ...]) -> list[str]:
        return [new if one == old else one for one in signers]  # no root names one key for two roles

    return root_payload(
        version=trust.version + 1, roots=swapped(trust.roots), threshold=trust.threshold,
        publishers=with_new("publisher", trust.publishers), issuers=with_new("issuer", trust.issuers),
        revokers=swapped(trust.revokers), models=with_new("model", trust.models),
        development=trust.development, ciphers={*trust.ciphers, *ciphers},
    )  # fmt: skip


def _root_keys(folder: Path, passphrase: Unlock) -> list[SigningKey]:
    paths = [*root_paths(folder), *(folder / "next").glob("root*.key.json")]
    return [load_signing_key(path, "root", passphrase) for path in paths]


def _settle(folder: Path, trust: TrustRoot, data: bytes) -> NewRoot:
    """The home's root where nothing is missing any more, else the draft."""
    new = parse_trust(data, complete=False)
    if missing := missing_signatures(new, trust):
        write_file(folder / DRAFT, data)
        return NewRoot(folder / DRAFT, new, missing)
    trust.check_successor(new)
    write_file(folder / ROOT, data)
    (folder / DRAFT).unlink(missing_ok=True)
    _finish(folder, new)
    return NewRoot(folder / ROOT, new, 0)


def _finish(folder: Path, trust: TrustRoot) -> None:
    """Put new keys that the root names into the place of the old ones, which go to retired/; a crash repeats it."""
    named = {*trust.roots, *trust.publishers, *trust.issuers, *trust.revokers, *trust.models}
    for path in (folder / "next").glob("*.key.json"):
        if key_facts(path)[2] not in named:
            continue
        place = folder / path.name
        if place.exists():
            retired = folder / "retired" / f"{name_of(key_facts(place)[2])[:16]}-{path.name}"
            retired.parent.mkdir(mode=0o700, exist_ok=True)
            place.replace(retired)
        path.replace(place)
        flush_folder(folder)
