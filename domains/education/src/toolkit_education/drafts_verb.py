"""`toolkit drafts`: the free drafts of a site that wait for a person, and that person's word.

It works on the site's database, with a server beside it or without; a server takes up what is decided within seconds.
"""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from toolkit.cli.output import JsonFlag, emit
from toolkit.cli.places import SiteOption, say, site_folder

if TYPE_CHECKING:
    from toolkit_education.draft_records import DraftRecords

app = typer.Typer(help="New problems that were drafted on a site, and a person's word on them.", no_args_is_help=True)

Draft = Annotated[str, typer.Argument(help="A draft's id, as `toolkit drafts list` shows it.")]
Note = Annotated[str, typer.Option("--note", help="For whoever asks later why.")]
By = Annotated[str, typer.Option("--by", help="Who decides; the user of this process where it is not given.")]
Outcome = Literal["waiting", "solved", "accepted", "refused", "rejected"]


@app.command("list")
def list_(
    outcome: Annotated[Outcome, typer.Option("--outcome", help="What became of them.")] = "waiting",
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="Most of them, the first that came.")] = 20,
    site: SiteOption = None,
    as_json: JsonFlag = False,
) -> None:
    """The drafts that wait for a person, in the order they came, and why; or those of another outcome."""
    from toolkit_education.draft_room import shown

    records = _records(site)
    found = [shown(one) for one in records.listed(outcome, limit)]
    counts = dict(records.counts())

    def text(console: Console) -> None:
        for one in found:
            say(console, f"{one['id']}  {one['because'] or one['outcome']:<40}  {_first(one)}")
        say(console, ", ".join(f"{many} {name}" for name, many in counts.items()))

    emit({"counts": counts, "drafts": found}, as_json=as_json, text=text)


@app.command()
def show(draft: Draft, site: SiteOption = None, as_json: JsonFlag = False) -> None:
    """A draft as a person reads it: the problem with its steps and answer, with its own numbers and with others."""
    from toolkit_education.draft_room import shown

    _told(shown(_records(site).find(draft)), as_json=as_json)


@app.command()
def accept(draft: Draft, note: Note = "", by: By = "", site: SiteOption = None, as_json: JsonFlag = False) -> None:
    """Accept a draft that waits: from now on it may be served."""
    _decided(site, draft, "accepted", by, note, as_json=as_json)


@app.command()
def reject(draft: Draft, note: Note = "", by: By = "", site: SiteOption = None, as_json: JsonFlag = False) -> None:
    """Reject a draft that waits, or take out one that is served."""
    _decided(site, draft, "rejected", by, note, as_json=as_json)


def _decided(site: Path | None, draft: str, outcome: str, by: str, note: str, *, as_json: bool) -> None:
    from toolkit_education.draft_room import shown

    _told(shown(_records(site).review(draft, outcome, by or getpass.getuser(), note)), as_json=as_json)


def _told(record: dict[str, Any], *, as_json: bool) -> None:
    def text(console: Console) -> None:
        by = f" by {record['reviewer']}" if record["reviewer"] else ""
        say(console, f"{record['id']}  {record['outcome']}{by}  {record['note'] or record['because']}")
        for number, item in enumerate(record["items"]):
            say(console, f"\n{'With other numbers: ' if number else ''}{item['problem']}")
            for step in item["steps"]:
                say(console, f"  {step}")
            say(console, f"  = {item['answer']} {item['unit']}".rstrip())
        if not record["items"]:
            say(console, f"\n{record['text']}")

    emit(record, as_json=as_json, text=text)


def _first(record: dict[str, Any]) -> str:
    problem = record["items"][0]["problem"] if record["items"] else record["text"]
    return " ".join(problem.split())[:100]


def _records(site: Path | None) -> DraftRecords:
    """The drafts of a site. Raises UsageError where no domain of language was ever served there."""
    from toolkit.errors import UsageError
    from toolkit_education.draft_records import DraftRecords
    from toolkit_education.learner_records import LearnerRecords
    from toolkit_education.service import STATE, URL, learners_of

    folder = site_folder(site)
    if not (folder / STATE).is_file() and not (folder / URL).is_file():
        raise UsageError(f"{folder} has no drafts: no tutor was ever served there", hint="Name the site: --site SITE.")
    database = learners_of(folder)
    LearnerRecords(database)  # which brings the tables up to date
    return DraftRecords(database)
