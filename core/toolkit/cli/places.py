"""Where verbs look: the home's bundles and registry, the default site, the passphrase."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from toolkit.cli.output import plain
from toolkit.errors import Refused, UsageError
from toolkit.plan import database_url, passphrase_from_environment, toolkit_home
from toolkit.workspace import write_file

if TYPE_CHECKING:
    from toolkit.protocols import CipherSuite, KeyProvider
    from toolkit.registry.store import Registry
    from toolkit.seal.custody import Access
    from toolkit.seal.manifest import Manifest

SiteOption = Annotated[Path | None, typer.Option("--site", help="The site's folder; `site` in the toolkit home else.")]
BundleArgument = Annotated[str, typer.Argument(help="A bundle's folder, or the id of one in the toolkit home.")]


def open_registry() -> Registry:
    """The registry of this home's runs: TOOLKIT_DATABASE_URL, or the home's own file."""
    from toolkit.registry.store import Registry
    from toolkit.workspace import Workspace

    home = Workspace(toolkit_home()).home
    return Registry(home, database_url(home))


def site_folder(site: Path | None) -> Path:
    """The site a verb works on."""
    return site if site is not None else toolkit_home() / "site"


def bundle_folder(bundle: str) -> Path:
    """A bundle by its folder or by its id."""
    named = toolkit_home() / "bundles" / bundle
    return named if "/" not in bundle and named.is_dir() and not Path(bundle).exists() else Path(bundle)


CustodyOption = Annotated[
    str, typer.Option("--custody", metavar="NAME", help="What guards the new keys: a key provider's name.")
]


def unlock(custody: str = "") -> Access:
    """How key files are opened: by TOOLKIT_PASSPHRASE_FILE, and by plugins where a file names one."""
    from toolkit.seal.custody import Access

    return Access(passphrase_from_environment(), _key_providers, custody, _cipher_suites)


def _key_providers() -> Mapping[str, KeyProvider]:
    from toolkit import defaults
    from toolkit.plugins import load_plugins

    return load_plugins(None, defaults).key_providers()


def _cipher_suites() -> Mapping[str, CipherSuite]:
    from toolkit import defaults
    from toolkit.plugins import load_plugins

    return load_plugins(None, defaults).cipher_suites()


def new_passphrase() -> str:
    """A passphrase for new keys: from TOOLKIT_PASSPHRASE_FILE, or asked for twice at a terminal."""
    given = passphrase_from_environment()
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise UsageError(
            "production keys need a passphrase", hint="Name a file that holds it in TOOLKIT_PASSPHRASE_FILE."
        )
    return str(typer.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True))


def check_data_licence(manifest: Manifest, override: str) -> None:
    """A model of data whose terms nobody stated leaves this machine only with a reason on record."""
    if manifest.data.licence:
        return
    if not override:
        raise Refused(
            f"the data behind {manifest.bundle_id} state no licence, so it may not leave this machine",
            hint="State it with --set data.licence=... and deploy again, or give --override REASON.",
        )
    from toolkit.seal.escrow import escrow_folder

    log = escrow_folder(toolkit_home()) / f"{manifest.bundle_id}.overrides.jsonl"
    line = json.dumps({"at": datetime.now(UTC).isoformat(), "reason": override}, ensure_ascii=False)
    write_file(log, (log.read_bytes() if log.exists() else b"") + line.encode() + b"\n", mode=0o600)


def say(console: Console, text: str) -> None:
    """Print lines as they are: paths and texts from outside may hold what would be markup, or move the cursor."""
    console.print("\n".join(map(plain, text.split("\n"))), markup=False)
