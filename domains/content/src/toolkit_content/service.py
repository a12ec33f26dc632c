"""What a site's content service is made of: the bundle's rules, and the operator's own beside them.

Loads no web framework until a service is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from toolkit.errors import IntegrityError
from toolkit.services import Panel, Service
from toolkit.tasks.text_generation.service import Manner
from toolkit.text import Conversation, ServedText
from toolkit_content.channels import Channel, channels_of, load_channels
from toolkit_content.checks import Checker
from toolkit_content.copies import Copies
from toolkit_content.guard import Guarded
from toolkit_content.marking import Rule, rule_named
from toolkit_content.slots import Pack, load_pack, pack_of
from toolkit_content.terms import Lexicon, Scanner, lexicon_of, load_lexicon
from toolkit_content.writer import Writer

FOLDER = "content"
"""Of a site: lexicons, packs and channels of the operator's own, read at start, which go before the bundle's."""


@dataclass(frozen=True)
class Desk:
    """All that the routes work with. `writers` are by language."""

    bundle: str
    product: str
    writers: Mapping[str, Writer]
    guarded: Guarded
    manner: Manner
    channels: Mapping[str, Channel]
    lexicons: tuple[Lexicon, ...]
    marking: Rule

    def writer(self, language: str) -> Writer:
        """Of that language, or the first there is."""
        return self.writers.get(language) or next(iter(self.writers.values()))


def content_service(site: Path, bundle: Mapping[str, Any], predictor: ServedText) -> Service:
    """The routes of the bundle's student.

    Raises:
        IntegrityError: the bundle holds no pack. DataError: a file of the operator's own is none.
    """
    from toolkit_content.routes import content_routes  # brings fastapi

    desk = desk_of(site, bundle, predictor)
    conversation = Conversation(desk.guarded, desk.manner.request)
    return Service(content_routes(desk), conversation, (panel_of(desk),))


def panel_of(desk: Desk) -> Panel:
    """The console's page to write and check copy on. `slots` are the attributes that each language's pack knows, with
    their known values."""
    slots = {
        language: {name: list(slot.values) for name, slot in writer.checker.pack.slots.items()}
        for language, writer in desk.writers.items()
    }
    return Panel("copy", files("toolkit_content").joinpath("panel"), {"slots": slots})


def desk_of(site: Path, bundle: Mapping[str, Any], predictor: ServedText) -> Desk:
    packed: Mapping[str, bytes] = bundle["files"]
    settings, own = bundle["plan"][FOLDER], site / FOLDER
    texts = {role: data.decode() for role, data in packed.items() if role.endswith(".toml")}
    packs = [pack_of(text) for name, text in texts.items() if name.startswith("pack-")]
    packs = [*map(load_pack, _own(own, "pack-*.toml")), *packs]
    if not packs:
        raise IntegrityError("the bundle holds no pack", part="content", hint="Build the bundle again.")
    lexicons = tuple(lexicon_of(text) for name, text in texts.items() if name.startswith("lexicon-"))
    lexicons += tuple(map(load_lexicon, _own(own, "lexicon-*.toml")))
    channels = dict(load_channels(next(iter(_own(own, "channels.toml")), None)))
    if "channels.toml" in texts:
        channels = {**channels_of(texts["channels.toml"]), **channels}
    scanner = Scanner(lexicons)
    copies = Copies.from_bytes(packed["copies"]) if "copies" in packed else None
    manner = Manner.of(bundle)
    by_language: dict[str, Pack] = {}
    for pack in packs:
        by_language.setdefault(pack.language, pack)
    writers = {
        language: Writer(
            predictor, manner.request, Checker(pack, scanner, copies), settings["tries"], settings["temperature"]
        )
        for language, pack in by_language.items()
    }
    return Desk(
        bundle["id"], bundle["product"], writers, Guarded(predictor, scanner), manner, channels, lexicons,
        rule_named(settings["marking"]),
    )  # fmt: skip


def _own(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern)) if folder.is_dir() else []
