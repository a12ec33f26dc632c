"""The model that a site serves, opened to be scored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.cli.places import unlock
from toolkit.plan import Plan
from toolkit.plugins import Plugins
from toolkit.resolve import thaw

if TYPE_CHECKING:
    from toolkit.tasks.base import AnyPredictor


@dataclass(frozen=True)
class Installed:
    """A sealed model with the plan and the plugins that it was made by; `classes` is the file of that role."""

    bundle_id: str
    plan: Plan
    classes: Mapping[str, Any]
    plugins: Plugins
    predictor: AnyPredictor


def open_installed(site: Path) -> Installed:
    """Raises as `open_current` does."""
    from toolkit import defaults
    from toolkit.plugins import load_plugins
    from toolkit.protocols import PredictorFacts
    from toolkit.site.current import open_current
    from toolkit.tasks.base import task_of

    with open_current(site, unlock()) as bundle:
        plugins = load_plugins(bundle.manifest.domain.name, defaults)
        plan = thaw(json.loads(bundle.read("plan")), plugins.settings())
        facts = PredictorFacts("installed", "", bundle.manifest.bundle_id)
        predictor = task_of(plan).open_installed(bundle, facts, 1)
        return Installed(facts.digest, plan, json.loads(bundle.read("classes")), plugins, predictor)
