"""`toolkit keys`: the cryptographic keys of the home (API keys are `toolkit access`)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from toolkit.cli.output import JsonFlag, emit
from toolkit.cli.places import CustodyOption, new_passphrase, say, unlock
from toolkit.errors import UsageError, unknown_name
from toolkit.plan import toolkit_home

if TYPE_CHECKING:
    from toolkit.seal.revocation import Revocation
    from toolkit.seal.rotation import NewRoot

app = typer.Typer(help="Root, publisher, issuer and revocation keys.", no_args_is_help=True)

SuiteOption = Annotated[
    str | None,
    typer.Option("--suite", help="cob256+xwing+ed25519; +mldsa65 behind it, or another cipher before it."),
]


@app.command("init")
def init(
    suite: SuiteOption = None,
    root_keys: Annotated[int, typer.Option("--root-keys", help="Root keys to make.")] = 1,
    threshold: Annotated[int, typer.Option("--threshold", help="Root keys that must sign a new root.")] = 1,
    custody: CustodyOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Make production keys in the toolkit home, locked by a passphrase, or in a token by its PIN."""
    from toolkit.seal.keys import init_keys
    from toolkit.seal.suites import SUITE

    by = replace(unlock(custody), passphrase=new_passphrase())
    init_keys(_folder(), by, suite=suite or SUITE, root_keys=root_keys, threshold=threshold)
    _show(as_json)


@app.command("list")
def listing(as_json: JsonFlag = False) -> None:
    """The home's keys: what guards them, who the root names, what was revoked."""
    _show(as_json)


@app.command("rotate")
def rotate(
    role: Annotated[str, typer.Argument(help="root, publisher, issuer, revocation, escrow or model (of model.sig).")],
    suite: SuiteOption = None,
    key: Annotated[str, typer.Option("--key", metavar="ID", help="Which root key goes, where several lie here.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Put a new key in the place of a role's, and write the next root.json. What the old key signed stays valid. A new
    escrow pair is in no root.json: what was kept for the old one is wrapped anew."""
    from toolkit.seal.escrow import ROLE, escrow_folder, rotate_escrow
    from toolkit.seal.rotation import ROTATED
    from toolkit.seal.rotation import rotate as turn

    if role not in (*ROTATED, ROLE):
        raise unknown_name("role", role, (*ROTATED, ROLE))
    if key and role != "root":
        raise UsageError(f"there is one key for {role}", hint="Leave out --key.")
    if role == ROLE:
        if suite is not None:
            raise UsageError("the escrow pair signs nothing, so it has no suite", hint="Leave out --suite.")
        made = rotate_escrow(_existing(), escrow_folder(toolkit_home()), unlock())
        said = f"A new escrow pair; {made.grants} grants were wrapped anew. Renew the copies of keys/ and escrow/."
        emit(asdict(made), as_json=as_json, text=lambda console: say(console, said))
        return
    _tell(turn(_existing(), role, unlock(), suite=suite, key=key), as_json)


@app.command("sign")
def sign(
    root: Annotated[Path, typer.Argument(metavar="ROOT.json", help="A new root that waits for signatures.")],
    as_json: JsonFlag = False,
) -> None:
    """Add the signatures of this home's root keys to a new root.json, and tell what it changes of the home's."""
    from toolkit.seal.keys import ROOT
    from toolkit.seal.rotation import changes, sign_draft
    from toolkit.seal.trust import load_trust

    before = load_trust(_folder() / ROOT) if (_folder() / ROOT).exists() else None
    new = sign_draft(_folder(), root, unlock())
    _tell(new, as_json, changes(before, new.trust) if before else ())


@app.command("revoke")
def revoke(
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID]...", help="Key, recipient's fingerprint or recipient.json, bundle id."),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; it travels in the list.")] = "",
    days: Annotated[int, typer.Option("--days", help="Days for which the list holds.")] = 90,
    as_json: JsonFlag = False,
) -> None:
    """Revoke keys, recipients or bundles in the home's revoked.json; without an id, renew the list."""
    from toolkit.seal.revocation import LIST
    from toolkit.seal.rotation import revoke as withdraw
    from toolkit.seal.validity import as_text

    entries = [_revocation(one, reason) for one in ids or ()]
    made = withdraw(_existing(), entries, unlock(), days=days)
    record = {
        "list": str(_folder() / LIST), "version": made.version, "expires": as_text(made.expires),
        "revoked": [{"id": one.id, "reason": one.reason} for one in made.entries],
    }  # fmt: skip

    def text(console: Console) -> None:
        say(console, f"{record['list']}: version {made.version}, until {record['expires']}")
        say(console, "Carry it to each site: toolkit site revoke SITE --list revoked.json")

    emit(record, as_json=as_json, text=text)


@app.command("export")
def export(
    to: Annotated[Path, typer.Option("--to", help="A folder; it is made.")],
    as_json: JsonFlag = False,
) -> None:
    """Copy what sites need and nobody must hide: root.json, revoked.json where there is one, and the keys of model.sig
    as the public tool reads them."""
    from toolkit.seal.keys import ROOT, home_trust
    from toolkit.seal.model_signature import public_pem
    from toolkit.seal.revocation import LIST
    from toolkit.workspace import write_file

    trust = home_trust(_existing())
    files = {ROOT: trust.data} | ({LIST: trust.revoked.data} if trust.revoked else {})
    files |= {f"model-{key_id[:16]}.pem": public_pem(key_id).encode() for key_id in trust.models}
    for name, data in files.items():
        write_file(to / name, data)
    written = [str(to / name) for name in files]
    record = {"files": written, "root": trust.fingerprint, "version": trust.version}
    emit(record, as_json=as_json, text=lambda console: say(console, "\n".join(written)))


def _revocation(what: str, reason: str) -> Revocation:
    from toolkit.seal.canonical import TEXT
    from toolkit.seal.keys import home_trust
    from toolkit.seal.recipient import load_recipient
    from toolkit.seal.revocation import REVOKED_ID, Revocation
    from toolkit.seal.suites import name_of

    identity = load_recipient(Path(what)).fingerprint if what.endswith(".json") else what
    if re.fullmatch(REVOKED_ID, identity) is None or re.fullmatch("[0-9a-f]{8,63}", identity):
        raise UsageError(
            f"{what[:80]!r} is neither a key, nor a recipient, nor a bundle",
            hint="A key is named by all its digits: `toolkit keys list` shows them.",
        )
    if not reason.isprintable() or re.fullmatch(TEXT, reason) is None:
        raise UsageError("the reason is too long, or holds what cannot be printed", hint="Give another --reason.")
    if identity in map(name_of, home_trust(_existing()).roots):
        raise UsageError(f"{identity[:16]}… is a root key, and a list ends none", hint="toolkit keys rotate root")
    return Revocation(identity, reason)


def _folder() -> Path:
    return toolkit_home() / "keys"


def _existing() -> Path:
    from toolkit.seal.keys import ROOT

    if not (_folder() / ROOT).exists():
        raise UsageError(f"there are no keys in {_folder()}", hint="Make them with `toolkit keys init`.")
    return _folder()


def _tell(new: NewRoot, as_json: bool, changed: Sequence[str] = ()) -> None:
    record = {
        "root": str(new.path), "version": new.trust.version, "missing_signatures": new.missing,
        "fingerprint": new.trust.fingerprint, "changes": list(changed),
    }  # fmt: skip

    def text(console: Console) -> None:
        say(console, f"{new.path}: version {new.trust.version}")
        for one in changed:
            say(console, f"  {one}")
        if new.missing:
            say(console, f"{new.missing} more root keys must sign it: toolkit keys sign {new.path}")
        else:
            say(console, "Carry it to each site: toolkit site trust SITE --root root.json")

    emit(record, as_json=as_json, text=text)


def _show(as_json: bool) -> None:
    from toolkit.seal.keyfile import key_facts
    from toolkit.seal.keys import ROOT, custody_of, home_trust
    from toolkit.seal.suites import name_of, suite_of

    folder = _existing()
    trust = home_trust(folder)
    roles = {"root": trust.roots, "publisher": trust.publishers, "issuer": trust.issuers, "revocation": trust.revokers}
    record: dict[str, Any] = {
        "folder": str(folder), "custody": custody_of(folder), "trust": str(folder / ROOT), "root": trust.fingerprint,
        "version": trust.version, "threshold": trust.threshold, "suites": list(trust.suites),
        "roles": {
            role: [{"key": name_of(one), "suite": suite_of(one)} for one in found] for role, found in roles.items()
        },
        "files": {
            path.name: dict(zip(("role", "custody", "key"), key_facts(path), strict=True))
            for path in sorted(folder.glob("*.key.json"))
        },
        "revoked": [{"id": one.id, "reason": one.reason} for one in trust.revoked.entries] if trust.revoked else [],
        "models": list(trust.models),
    }  # fmt: skip

    def text(console: Console) -> None:
        say(console, f"keys       {folder} ({record['custody']})")
        say(console, f"root.json  version {trust.version}, {trust.threshold} of {len(trust.roots)} root keys change it")
        say(console, f"digest     {trust.fingerprint}")
        for role, found in roles.items():
            for one in found:
                say(console, f"{role:<10} {name_of(one)}{' revoked' if name_of(one) in trust.revoked_ids else ''}")
        for key_id in trust.models:
            say(console, f"model      {key_id}{' revoked' if key_id in trust.revoked_ids else ''}")
        if not trust.models:
            say(console, "model      none, so bundles go without model.sig: toolkit keys rotate model")
        say(console, f"suites     {', '.join(trust.suites)}")
        say(console, f"A site trusts them by {folder / ROOT}: toolkit site init SITE --trust {ROOT}")

    emit(record, as_json=as_json, text=text)
