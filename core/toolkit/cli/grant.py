"""`toolkit grant`: give a site the keys of a sealed bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.output import JsonFlag, emit
from toolkit.cli.places import BundleArgument, bundle_folder, say
from toolkit.plan import passphrase_from_environment, toolkit_home


def grant(
    bundle: BundleArgument,
    to: Annotated[Path, typer.Option("--to", help="The site's recipient.json.")],
    renew: Annotated[bool, typer.Option("--renew", help="Issue a new grant where the site has one.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write a grant for a site into a bundle; the payload stays as it is."""
    from toolkit.seal.grant import grant as give
    from toolkit.seal.keys import load_keys
    from toolkit.seal.recipient import load_recipient

    home, recipient = toolkit_home(), load_recipient(to)
    keys = load_keys(home / "keys", passphrase_from_environment())
    path = give(bundle_folder(bundle), recipient, keys, home / "escrow", renew=renew)
    record = {"grant": str(path), "recipient": recipient.fingerprint, "name": recipient.name}
    emit(record, as_json=as_json, text=lambda console: say(console, f"granted to {recipient.name}: {path}"))
