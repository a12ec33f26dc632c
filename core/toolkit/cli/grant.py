"""`toolkit grant`: give a site the keys of a sealed bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.output import JsonFlag, emit
from toolkit.cli.places import BundleArgument, bundle_folder, check_data_licence, say, unlock
from toolkit.errors import UsageError
from toolkit.plan import toolkit_home

if TYPE_CHECKING:
    from toolkit.seal.validity import Validity


def grant(
    bundle: BundleArgument,
    to: Annotated[Path, typer.Option("--to", help="The site's recipient.json.")],
    renew: Annotated[bool, typer.Option("--renew", help="Issue a new grant where the site has one.")] = False,
    start: Annotated[
        str, typer.Option("--from", metavar="DATE", help="First day, in UTC, or a time with its zone; at once else.")
    ] = "",
    until: Annotated[
        str, typer.Option("--until", metavar="DATE", help="Last day, in UTC, or a time with its zone; no end else.")
    ] = "",
    grace: Annotated[
        int | None, typer.Option("--grace", metavar="DAYS", help="Days after --until in which it is still served.")
    ] = None,
    instances: Annotated[
        int | None, typer.Option("--instances", metavar="N", help="Servers that may run on the site at once.")
    ] = None,
    override: Annotated[
        str, typer.Option(metavar="REASON", help="Grant although the data state no licence; the reason is kept.")
    ] = "",
    as_json: JsonFlag = False,
) -> None:
    """Write a grant for a site into a bundle; the payload stays as it is."""
    from toolkit.seal.escrow import escrow_folder
    from toolkit.seal.grant import grant as give
    from toolkit.seal.keys import load_keys
    from toolkit.seal.recipient import load_recipient
    from toolkit.seal.verify import verify_bundle

    validity = _validity(start, until, grace, instances)
    home, recipient, folder = toolkit_home(), load_recipient(to), bundle_folder(bundle)
    keys = load_keys(home / "keys", unlock())
    check_data_licence(verify_bundle(folder, keys.trust), override)
    path = give(folder, recipient, keys, escrow_folder(home), renew=renew, validity=validity)
    record = {"grant": str(path), "recipient": recipient.fingerprint, "name": recipient.name}
    emit(record, as_json=as_json, text=lambda console: say(console, f"granted to {recipient.name}: {path}"))


def _validity(start: str, until: str, grace: int | None, instances: int | None) -> Validity | None:
    from toolkit.seal.validity import Validity, check_validity, parse_moment, wall_clock

    if not start and not until and grace is None and instances is None:
        return None
    validity = Validity(
        not_before=parse_moment(start) if start else None,
        not_after=parse_moment(until, end=True) if until else None,
        grace_days=grace,
        max_instances=instances,
    )
    check_validity(validity)
    if validity.not_after is not None and validity.not_after < wall_clock():
        raise UsageError(f"{until} is past: nobody could use that grant", hint="Give a later --until.")
    return validity
