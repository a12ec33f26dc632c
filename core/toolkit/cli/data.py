"""`toolkit data`: look at data before anything is trained on it."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from toolkit.cli.output import JsonFlag, emit
from toolkit.cli.planning import ConfigOption, DomainOption, SetOption, make_plan
from toolkit.plan import Options, toolkit_home

DATA_KEY = "data.key.json"
"""In the home's keys: what receives samples from sites."""

app = typer.Typer(help="Check data, and list what was prepared.", no_args_is_help=True)


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="Folder of your data.")],
    domain: DomainOption = "industry",
    assignments: SetOption = None,
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Read and check a folder as `deploy` would: unreadable files, wrong labels, leaks between splits."""
    from toolkit.cli.progress import ProgressReporter
    from toolkit.stages.prepare import check_folder

    planned = make_plan(Options(domain, folder), assignments or [], config, settled=False)
    check_folder(folder)
    with tempfile.TemporaryDirectory() as workspace, ProgressReporter() as progress:
        dataset = planned.plugins.hook.prepare_data(
            plan=planned.resolved.plan,
            source=folder.absolute(),
            purpose="train",
            workspace=Path(workspace),
            classes=(),
            report=progress,
        )
    record = dict(dataset.facts)
    emit(record, as_json=as_json, text=lambda console: _show_check(console, record))


@app.command("list")
def list_prepared(as_json: JsonFlag = False) -> None:
    """List the data sets that were prepared in this home."""
    found = []
    for manifest in sorted((toolkit_home() / "store" / "dataset").glob("*/artifact.json")):
        facts = json.loads(manifest.read_bytes())["facts"]
        found.append(
            {
                "digest": manifest.parent.name,
                "source": facts.get("source"),
                "licence": facts.get("licence"),
                "rows": {split: sum(rows.values()) for split, rows in facts.get("counts", {}).items()}
                | ({"unlabelled": facts["unlabelled"]} if facts.get("unlabelled") else {}),
                "sample": bool(facts.get("sample")),
            }
        )
    emit({"datasets": found}, as_json=as_json, text=lambda console: _show_list(console, found))


@app.command()
def recipient(
    file: Annotated[Path, typer.Argument(help="File to write, to be carried to sites.")],
    name: Annotated[str, typer.Option("--name", help="Who receives, for people to read.")] = "lab",
    as_json: JsonFlag = False,
) -> None:
    """The public key that sites send samples to; the secret one is made with it and stays in this home."""
    from toolkit.cli.places import unlock
    from toolkit.seal.keyfile import create_recipient_key, load_recipient_key
    from toolkit.seal.recipient import Recipient
    from toolkit.workspace import write_file

    path = toolkit_home() / "keys" / DATA_KEY
    key = (load_recipient_key if path.exists() else create_recipient_key)(path, "data", unlock())
    public = Recipient.of(key, name)
    write_file(file, public.as_bytes())

    def text(console: Console) -> None:
        console.print(f"{file}: fingerprint {public.fingerprint}, {key.custody} key", markup=False)

    emit(
        {"file": str(file), "fingerprint": public.fingerprint, "custody": key.custody}, as_json=as_json, text=text
    )  # fmt: skip


@app.command("import")
def import_(
    returned: Annotated[Path, typer.Argument(help="Folder that a site sent: `toolkit review export` made it.")],
    into: Annotated[Path, typer.Option("--into", help="Folder of data to train on; made where there is none.")],
    signer: Annotated[
        str | None, typer.Option("--signer", metavar="KEY", help="The site's key, as its `audit head` prints it.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Turn samples that came back from a site into training data: people's labels, and the rest without one."""
    from collections import Counter

    from toolkit.cli.places import unlock
    from toolkit.seal.keyfile import load_recipient_key
    from toolkit.site.returned import receive
    from toolkit.tasks.returned import take_in

    opened = receive(returned, signer)
    keys = (load_recipient_key(toolkit_home() / "keys" / DATA_KEY, "data", unlock()),)
    told: Counter[str] = Counter()
    for sample in opened.samples(keys):
        told += take_in(sample.task, [sample], into)

    def text(console: Console) -> None:
        for label, count in sorted(told.items()):
            console.print(f"{count:>6,}  {label}", markup=False)
        console.print(f"in {into}; signed by {opened.signer} at {opened.time}", markup=False)
        if signer is None:
            console.print("Compare that key with the site's `toolkit audit head`, or name it with --signer.")

    emit({"into": str(into), "taken": dict(told), "signer": opened.signer}, as_json=as_json, text=text)


def _show_check(console: Console, facts: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False)
    splits = list(facts["counts"])
    for column in ("class" if "classes" in facts else "task", *splits):
        table.add_column(column)
    rows = facts.get("classes") or list(dict.fromkeys(name for found in facts["counts"].values() for name in found))
    for name in rows:
        table.add_row(name, *(str(facts["counts"][split].get(name, 0)) for split in splits))
    console.print(table)
    if facts.get("unlabelled"):
        console.print(f"and {facts['unlabelled']:,} without a label", markup=False)
    for finding in facts["findings"]:
        console.print(f"{finding['severity']:<8}{finding['kind']}: {finding['message']}", markup=False)


def _show_list(console: Console, found: list[dict[str, Any]]) -> None:
    if not found:
        console.print("no data set was prepared here yet")
    for one in found:
        rows = ", ".join(f"{split} {count:,}" for split, count in one["rows"].items())
        console.print(f"{one['digest'][:12]}  {one['source']}  {rows}", markup=False)
