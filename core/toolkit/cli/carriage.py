"""`toolkit bundle push|pull|export|import`: a bundle through a registry, or as one file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.cli.output import JsonFlag, emit
from toolkit.cli.places import BundleArgument, bundle_folder, check_data_licence, say
from toolkit.errors import UsageError
from toolkit.plan import toolkit_home

if TYPE_CHECKING:
    from toolkit.carriage.reference import Reference
    from toolkit.carriage.registry import Registry
    from toolkit.seal.trust import TrustRoot

ReferenceArgument = Annotated[str, typer.Argument(metavar="REF", help="HOST[:PORT]/NAME:TAG, or NAME@sha256:DIGEST.")]
FolderArgument = Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the bundle comes to lie; it is made.")]
TrustOption = Annotated[
    Path | None,
    typer.Option("--trust", help="The root.json to judge the bundle by; the home's, or the site's, else."),
]
CarriedFor = Annotated[Path | None, typer.Option("--site", help="Judge the bundle by what this site trusts.")]
GrantsFlag = Annotated[bool, typer.Option("--grants/--no-grants", help="Whether the grants travel with it.")]
CredentialsOption = Annotated[
    Path | None,
    typer.Option(
        "--credentials", metavar="FILE", envvar="TOOLKIT_REGISTRY_CREDENTIALS_FILE",
        help="User and password by host, as `docker login` and `podman login` write them.",
    ),
]  # fmt: skip
InsecureFlag = Annotated[bool, typer.Option("--insecure", help="Plain http to a host that is not this machine.")]
TokenHostOption = Annotated[
    str, typer.Option("--token-host", metavar="HOST", help="Another host that may be told the password.")
]
OverrideOption = Annotated[
    str, typer.Option(metavar="REASON", help="Although the data state no licence; the reason is kept.")
]


def push(
    bundle: BundleArgument,
    ref: ReferenceArgument,
    grants: GrantsFlag = True,
    credentials: CredentialsOption = None,
    insecure: InsecureFlag = False,
    token_host: TokenHostOption = "",
    override: OverrideOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Send a bundle to an OCI registry; what lies there already is not sent again."""
    from toolkit.carriage.image import image_of
    from toolkit.carriage.reference import parse_reference
    from toolkit.seal.keys import home_trust

    reference, folder = parse_reference(ref), bundle_folder(bundle)
    if not reference.tag or reference.digest:
        raise UsageError(f"{ref} names no tag alone", hint="Push to HOST/NAME:TAG; the digest is told then.")
    image, manifest = image_of(folder, home_trust(toolkit_home() / "keys"), grants=grants)
    check_data_licence(manifest, override)
    with _registry(reference, credentials, insecure, token_host) as registry:
        sent = registry.push(folder, image)
    record: dict[str, Any] = {
        "bundle_id": manifest.bundle_id, "reference": str(reference), "digest": f"sha256:{image.sha256}",
        "files": len(image.parts), "bytes": sum(part.size for part in image.parts), "bytes_sent": sent,
    }  # fmt: skip
    by_digest = f"{reference.host}/{reference.name}@{record['digest']}"
    told = f"{manifest.bundle_id} is {reference}, {sent:,} of {record['bytes']:,} bytes sent\n{by_digest}"
    emit(record, as_json=as_json, text=lambda console: say(console, told))


def pull(
    ref: ReferenceArgument,
    folder: FolderArgument,
    trust: TrustOption = None,
    site: CarriedFor = None,
    credentials: CredentialsOption = None,
    insecure: InsecureFlag = False,
    token_host: TokenHostOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Fetch a bundle from an OCI registry; what the trust root does not vouch for is not kept."""
    from toolkit.carriage.reference import parse_reference
    from toolkit.carriage.unpack import unpack

    by = _trust(trust, site)
    with _registry(parse_reference(ref), credentials, insecure, token_host) as registry:
        image = registry.image()
        manifest = unpack(image, registry.read, by, folder)
    _brought(manifest.bundle_id, folder, as_json, digest=f"sha256:{image.sha256}")


def export(
    bundle: BundleArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE.tar", help="The file to write; it must not exist.")],
    grants: GrantsFlag = True,
    override: OverrideOption = "",
    as_json: JsonFlag = False,
) -> None:
    """Write a bundle into one file, a tar of the OCI image-layout; the same bundle gives the same bytes."""
    from toolkit.carriage.archive import export_bundle
    from toolkit.seal.keys import home_trust
    from toolkit.seal.verify import read_head

    folder, by = bundle_folder(bundle), home_trust(toolkit_home() / "keys")
    check_data_licence(read_head(folder, by).manifest, override)
    image, manifest = export_bundle(folder, by, file, grants=grants)
    record = {
        "bundle_id": manifest.bundle_id, "file": str(file), "digest": f"sha256:{image.sha256}",
        "files": len(image.parts), "bytes": file.stat().st_size,
    }  # fmt: skip
    told = f"{manifest.bundle_id} is in {file}, {record['bytes']:,} bytes"
    emit(record, as_json=as_json, text=lambda console: say(console, told))


def bring_in(
    file: Annotated[Path, typer.Argument(metavar="FILE.tar", help="What `toolkit bundle export` wrote.")],
    folder: FolderArgument,
    trust: TrustOption = None,
    site: CarriedFor = None,
    as_json: JsonFlag = False,
) -> None:
    """Take a bundle out of such a file; what the trust root does not vouch for is not kept."""
    from toolkit.carriage.archive import import_bundle

    manifest = import_bundle(file, _trust(trust, site), folder)
    _brought(manifest.bundle_id, folder, as_json)


def _brought(bundle_id: str, folder: Path, as_json: bool, **more: str) -> None:
    record = {"bundle_id": bundle_id, "path": str(folder), **more}
    emit(record, as_json=as_json, text=lambda console: say(console, f"{bundle_id} is in {folder}, as it was sealed"))


def _registry(reference: Reference, credentials: Path | None, insecure: bool, token_host: str) -> Registry:
    from toolkit.carriage.reference import credentials_for
    from toolkit.carriage.registry import Registry

    known = credentials_for(reference.host, file=credentials, environment=os.environ)
    return Registry(reference, known, insecure=insecure, token_host=token_host)


def _trust(trust: Path | None, site: Path | None) -> TrustRoot:
    """The root that was named; the home's, where this is a publisher's; the default site's, where it is a site's."""
    from toolkit.seal.keys import ROOT, home_trust
    from toolkit.seal.trust import load_trust
    from toolkit.site.layout import is_site, open_site

    if trust is not None:
        return load_trust(trust)
    home = toolkit_home()
    if site is None and (home / "keys" / ROOT).exists():
        return home_trust(home / "keys")
    place = site or home / "site"
    if site is None and not is_site(place):
        raise UsageError(
            "nothing says whom to trust", hint="Name the publisher's root.json with --trust, or --site SITE."
        )
    return open_site(place).trust
