"""Panels of the workbench: what domains bring for the people who use their models.

A panel is a folder of a domain's package: `panel.html.j2`, `panel.js`, `panel.css` if it wants one, and a catalogue a
language with at least `title` and `about`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jinja2

from toolkit.errors import PluginError
from toolkit.services import Panel
from toolkit.serving.access import Role
from toolkit.serving.console.assets import Assets, read_assets
from toolkit.serving.console.catalogue import Catalogue, Catalogues, read_catalogues
from toolkit.serving.models import ServedModel

TEMPLATE, SCRIPT, STYLE = "panel.html.j2", "panel.js", "panel.css"


@dataclass(frozen=True)
class ReadPanel:
    """A panel as it is shown."""

    name: str
    facts: Mapping[str, Any]
    role: Role
    template: jinja2.Template
    catalogues: Catalogues
    assets: Assets

    def texts(self, language: str) -> Catalogue:
        return self.catalogues[language]

    def html(self, language: str) -> str:
        """The panel's own part of the page; what its facts say is text there, whatever they say."""
        return self.template.render(t=self.texts(language), facts=self.facts)


def read_panel(panel: Panel) -> ReadPanel:
    """A panel from its domain's package.

    Raises:
        PluginError: a file is missing, the template is none, or a catalogue says too little.
    """
    assets, catalogues = read_assets(panel.folder), read_catalogues(panel.folder)
    try:
        source = panel.folder.joinpath(TEMPLATE).read_text(encoding="utf-8")
        template = environment().from_string(source)
    except (OSError, jinja2.TemplateError) as error:
        raise PluginError(
            f"the panel {panel.name} has no usable {TEMPLATE}: {error}", hint="See docs/howto/console.md."
        ) from error
    lacking = [name for name in (SCRIPT,) if name not in assets.files]
    lacking += [key for key in ("title", "about") if not next(iter(catalogues.values())).says(key)]
    if lacking:
        raise PluginError(f"the panel {panel.name} lacks {', '.join(lacking)}", hint="See docs/howto/console.md.")
    return ReadPanel(panel.name, panel.facts, panel.role, template, catalogues, assets)


class Panels:
    """The panels of what is served at a moment, each read once."""

    def __init__(self) -> None:
        self._read: dict[tuple[str, str], ReadPanel] = {}

    def of(self, model: ServedModel) -> tuple[ReadPanel, ...]:
        """In the domain's order; none where it brings none. Raises as `read_panel` does."""
        return tuple(self._panel(model, panel) for panel in model.service.panels)

    def _panel(self, model: ServedModel, panel: Panel) -> ReadPanel:
        place = model.facts.id, panel.name
        if place not in self._read:
            self._read[place] = read_panel(panel)
        return self._read[place]


def environment(loader: jinja2.BaseLoader | None = None) -> jinja2.Environment:
    """Templates in which every value is text, and a missing one is an error."""
    return jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
