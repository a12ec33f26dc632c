"""One worker of `toolkit serve`: opens what the site serves, says that it is ready, answers, and follows the site."""

from __future__ import annotations

import contextlib
import ssl
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from typing import Any

from toolkit import defaults
from toolkit.plugins import load_plugins
from toolkit.resolve import thaw
from toolkit.seal.custody import Unlock
from toolkit.seal.memory import harden_process
from toolkit.seal.open import OpenedBundle
from toolkit.serving.alongside import going_on
from toolkit.serving.app import build_app
from toolkit.serving.assembly import Tuning, checked_access, loaded, servers_of
from toolkit.serving.crew import Crew
from toolkit.serving.fleet import InHand
from toolkit.serving.following import Follower, Loaded, Warm
from toolkit.serving.ledger import open_ledger
from toolkit.serving.metrics import Metrics
from toolkit.serving.models import ServedModel, read_facts
from toolkit.serving.runner import run
from toolkit.serving.shadow import Shadow
from toolkit.serving.shared import Shared
from toolkit.serving.supervisor import Duty
from toolkit.serving.trial import Tolerance
from toolkit.serving.versions import Versions, version_routes
from toolkit.site.current import refusals_written_down
from toolkit.site.fit import plugin_check
from toolkit.site.layout import Site, open_site
from toolkit.site.watch import watched
from toolkit.tasks.asking import ask_by
from toolkit.tasks.base import task_named

SWITCH_SECONDS = 0.0005
"""For how long the model's thread may keep the interpreter while the loop wants it: a tenth of Python's own, and less
than a small model takes."""


@dataclass(frozen=True)
class Worker:
    """What every worker of a server is given; it is called in a process of its own."""

    folder: Path
    passphrase: Unlock
    tuning: Tuning
    tolerance: Tolerance
    listener: socket
    tls: ssl.SSLContext | None
    shared: Shared

    def __call__(self, duty: Duty) -> None:
        """A worker's life.

        Raises:
            ToolkitError: it does not come to life; it is in the site's trail then.
        """
        harden_process()
        sys.setswitchinterval(SWITCH_SECONDS)
        tuning, metrics = self.tuning, Metrics()
        with refusals_written_down(self.folder, "serve", self.passphrase):
            site = open_site(self.folder, self.passphrase)
            follower = Follower(
                site, warmer(tuning, metrics), metrics, InHand(), tuning.limits.drain_seconds, self.tolerance
            )
            follower.begin()
            access, ledger = checked_access(self.folder), open_ledger(site)
            if duty.replaces:
                site.audit.append("serve.restarted", duty.replaces)
        crew = Crew(duty.board, duty.place, metrics, follower.told)
        versions, first = self._versions(crew), duty.place == 1
        self.shared.figures.claim(duty.place)

        @contextlib.asynccontextmanager
        async def beside() -> AsyncIterator[None]:
            noting = going_on(versions.go_on_noting()) if first else contextlib.nullcontext()
            async with crew.telling(), going_on(follower.follow()), noting:
                duty.ready(_facts(follower.fleet.lines()[0].current))
                self.shared.spread.claim(duty.place)
                yield

        app = build_app(
            models=follower.fleet, access=access, metrics=metrics, limits=tuning.limits, in_hand=follower.in_hand,
            log_requests=tuning.log_requests, beside=beside(), crew=crew, ledger=ledger,
            routes=[version_routes(versions)], heard=[follower.trials.answered],
            shadow=Shadow(follower.fleet, follower.in_hand, follower.trials.compared), servers=servers_of(tuning),
            shared=self.shared, tracing=tuning.tracing,
        )  # fmt: skip
        run(app, self.listener, tuning.limits, self.tls, self.shared.spread)

    def _versions(self, crew: Crew) -> Versions:
        check = plugin_check(lambda domain: load_plugins(domain, defaults), self.folder)
        return Versions(self.folder, self.passphrase, check, crew.all)


def _facts(model: ServedModel) -> dict[str, Any]:
    facts = model.facts
    return {
        "bundle": facts.id, "version": facts.version, "product": facts.product, "task": facts.plan["task"],
        "development_keys": facts.development_keys, "sample": facts.sample, "standing": model.standing().message,
        "modules": [name for name in sys.modules if not name.startswith("_")],
    }  # fmt: skip


def warmer(tuning: Tuning, metrics: Metrics) -> Warm:
    """Makes versions of opened bundles, each by its own domain and task."""

    def warm(site: Site, bundle: OpenedBundle) -> Loaded:
        manifest = bundle.manifest
        plugins = load_plugins(manifest.domain.name, defaults)
        facts = read_facts(
            bundle,
            bundle=manifest.bundle_id,
            version=manifest.number,
            product=manifest.product,
            domain=manifest.domain.name,
            development_keys=manifest.development_keys,
        )
        others = ask_by(plugins, thaw(facts.plan, plugins.settings()))
        with contextlib.ExitStack() as ends:
            watch = ends.enter_context(watched(site, bundle))
            model = loaded(
                bundle, facts, runtime=task_named(facts.plan["task"]), tuning=tuning, metrics=metrics,
                standing=watch.standing,
                ask=lambda known, asked: plugins.hook.serve(site=site.path, bundle=known, predictor=asked, ask=others),
            )  # fmt: skip
            return Loaded(model, ends.pop_all())

    return warm
