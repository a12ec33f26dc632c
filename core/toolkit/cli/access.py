"""`toolkit access`: the API keys of a site."""

from __future__ import annotations

import os
import pwd
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from toolkit.cli.output import JsonFlag, emit
from toolkit.cli.places import SiteOption, site_folder, unlock
from toolkit.serving.access import Role, add_key, list_keys, remove_key
from toolkit.site.layout import open_site

app = typer.Typer(help="API keys of a site: who may ask its server what.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="Who holds the key: a person, a program, a line.")]
RoleOption = Annotated[
    Role, typer.Option("--role", help="infer: ask for verdicts; operate: also read metrics; admin: everything.")
]


@app.command()
def add(
    name: NameArgument,
    role: RoleOption,
    rate: Annotated[str, typer.Option("--rate", help="Most requests: 20/s, 600/m or 1000/h; none without it.")] = "",
    site: SiteOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a key and show it, once. The site keeps only its salted hash."""
    opened = open_site(site_folder(site), unlock())
    secret = add_key(opened.path, name, role, rate)
    opened.audit.append("access.added", {"name": name, "role": role, "rate": rate, "by": _who()})

    def text(console: Console) -> None:
        console.print(secret, markup=False)
        Console(stderr=True, highlight=False).print(f"Key of {name}, role {role}. It is shown only this once.")

    emit({"name": name, "role": role, "rate": rate, "key": secret}, as_json=as_json, text=text)


@app.command("list")
def list_(site: SiteOption = None, as_json: JsonFlag = False) -> None:
    """Who has a key, with which role and since when."""
    keys = list_keys(open_site(site_folder(site)).path)

    def text(console: Console) -> None:
        if not keys:
            console.print("No keys. Make one: toolkit access add NAME --role infer --site SITE", markup=False)
            return
        table = Table("name", "role", "rate", "created", box=None, header_style="bold")
        for key in keys:
            table.add_row(key.name, key.role, key.rate or "-", key.created)
        console.print(table)

    record = [{"name": key.name, "role": key.role, "rate": key.rate, "created": key.created} for key in keys]
    emit({"keys": record}, as_json=as_json, text=text)


@app.command()
def remove(name: NameArgument, site: SiteOption = None, as_json: JsonFlag = False) -> None:
    """Take a key back. A running server refuses it from its next request on."""
    opened = open_site(site_folder(site), unlock())
    remove_key(opened.path, name)
    opened.audit.append("access.removed", {"name": name, "by": _who()})
    emit({"removed": name}, as_json=as_json, text=lambda console: console.print(f"Removed {name}.", markup=False))


def _who() -> str:
    """Whoever changes a key here, as the site's trail has it: the system's user, by name where he has one."""
    try:
        return f"the command line, as {pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"the command line, as user {os.getuid()}"
