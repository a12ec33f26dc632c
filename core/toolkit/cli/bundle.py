"""`toolkit bundle`: what is in a bundle, which bundles the home has, and how one travels (`cli.carriage`)."""

from __future__ import annotations

import base64
import hashlib
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from toolkit.cli import carriage
from toolkit.cli.output import JsonFlag, emit
from toolkit.cli.places import BundleArgument, bundle_folder, say
from toolkit.errors import IntegrityError, UsageError
from toolkit.plan import toolkit_home

if TYPE_CHECKING:
    from toolkit.seal.trust import TrustRoot
    from toolkit.seal.verify import CheckedBundle

app = typer.Typer(help="Sealed bundles.", no_args_is_help=True)
app.command("push")(carriage.push)
app.command("pull")(carriage.pull)
app.command("export")(carriage.export)
app.command("import")(carriage.bring_in)

TrustOption = Annotated[
    Path | None, typer.Option("--trust", help="The root.json to judge the bundle by; the home's else.")
]


@app.command("show")
def show(
    bundle: BundleArgument,
    trust: TrustOption = None,
    as_json: JsonFlag = False,
) -> None:
    """What a bundle's signed manifest says; the files themselves are checked by `toolkit verify`."""
    found = _read(bundle_folder(bundle), trust)
    manifest = found.manifest
    record: dict[str, Any] = asdict(manifest) | {
        "grants": [
            {"id": one.grant_id, "serial": one.serial, "recipient": one.recipient, **one.validity.as_record()}
            for one in found.grants
        ]
    }

    def text(console: Console) -> None:
        rank = f"epoch {manifest.epoch}, counter {manifest.counter}"
        say(console, f"{manifest.bundle_id}  product {manifest.product}, {rank}, sealed {manifest.created}")
        say(console, f"domain   {manifest.domain.name} {manifest.domain.versions}")
        say(console, f"suite    {manifest.suite}{', development keys' if manifest.development_keys else ''}")
        say(console, f"teacher  {manifest.teacher.id} ({manifest.teacher.licence})")
        say(console, f"data     {manifest.data.id} ({manifest.data.licence})")
        for variant in manifest.variants:
            say(console, f"variant  {variant.name}: {variant.profile}, {variant.runtime}, {variant.rung}")
            for file in variant.files:
                say(console, f"  {file.role:<14} {file.size:>12,} bytes, encrypted")
        for plain in manifest.files:
            say(console, f"  {plain.role:<14} {plain.size:>12,} bytes, readable")
        if manifest.model_signer:
            say(console, f"signed   also by model.sig, key {manifest.model_signer[:16]}…")
        for one in found.grants:
            say(console, f"grant    {one.grant_id} serial {one.serial} to {one.recipient[:16]}…")

    emit(record, as_json=as_json, text=text)


@app.command("print")
def print_file(
    bundle: Annotated[
        str,
        typer.Argument(metavar="BUNDLE|SITE", help="A bundle's folder or id, or a site's, or SITE/versions/ID."),
    ],
    name: Annotated[str, typer.Argument(help="A readable file as `toolkit bundle show` names it, or model.sig.")],
    trust: TrustOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Write a file that everybody may read to standard output: a licence, a paper, what a domain left readable."""
    from toolkit.seal.readable import read_readable
    from toolkit.site.layout import is_site, open_site
    from toolkit.site.state import read_state

    folder, root = bundle_folder(bundle), None if trust is None else _trust(trust)
    if is_site(folder):
        site = open_site(folder)
        current = read_state(site.current, site.key_id).current
        if not current:
            raise UsageError(f"nothing is installed on {bundle}", hint="Install a bundle: `toolkit install BUNDLE`.")
        folder, root = site.versions / current, root or site.trust.unrevoked()
    elif is_site(folder.parent.parent):
        root = root or open_site(folder.parent.parent).trust.unrevoked()
    data = read_readable(folder, root or _trust(None), name)
    if not as_json:
        sys.stdout.buffer.write(data)
        return
    record = {
        "name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest(),
        "base64": base64.b64encode(data).decode(),
    }  # fmt: skip
    emit(record, as_json=True, text=lambda console: None)


@app.command("list")
def every(as_json: JsonFlag = False) -> None:
    """The bundles in the toolkit home, newest counter first."""
    folder = toolkit_home() / "bundles"
    paths = sorted(path for path in folder.glob("[!.]*") if path.is_dir())
    rows = [_row(path) for path in paths]
    rows.sort(key=lambda row: (str(row.get("product", "")), -int(row.get("counter", 0))))

    def text(console: Console) -> None:
        for row in rows:
            say(console, f"{row['bundle_id']}  {row.get('problem') or row['sealed']}")
        if not rows:
            say(console, f"There are no bundles in {folder}.")

    emit({"bundles": rows}, as_json=as_json, text=text)


def _row(path: Path) -> dict[str, Any]:
    """A bundle as a list shows it. One that was altered is listed too, with what is wrong: the others must be seen."""
    try:
        manifest = _read(path, None).manifest
    except IntegrityError as error:
        return {"bundle_id": path.name, "problem": str(error)}
    return {
        "bundle_id": manifest.bundle_id, "product": manifest.product, "counter": manifest.counter,
        "sealed": manifest.created, "path": str(path),
    }  # fmt: skip


def _read(path: Path, trust: Path | None) -> CheckedBundle:
    from toolkit.seal.verify import read_head

    return read_head(path, _trust(trust))


def _trust(trust: Path | None) -> TrustRoot:
    from toolkit.seal.keys import ROOT
    from toolkit.seal.trust import load_trust

    return load_trust(trust or toolkit_home() / "keys" / ROOT)
