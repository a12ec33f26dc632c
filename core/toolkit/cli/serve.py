"""`toolkit serve`: answer inspections with the model installed on a site."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from toolkit.cli.output import JsonFlag, emit
from toolkit.cli.places import SiteOption, site_folder, unlock
from toolkit.errors import EnvironmentUnfit

if TYPE_CHECKING:
    from toolkit.seal.custody import Unlock
    from toolkit.seal.open import OpenedBundle
    from toolkit.serving.assembly import Tuning
    from toolkit.serving.following import Follower
    from toolkit.serving.metrics import Metrics
    from toolkit.serving.models import BundleFacts
    from toolkit.site.layout import Site

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(
    site: SiteOption = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8080,
    queue_limit: Annotated[int, typer.Option(min=1, help="Requests in progress at once; more get 503.")] = 256,
    max_batch: Annotated[int, typer.Option(min=1, max=1024, help="Requests that run together at most.")] = 16,
    threads: Annotated[int, typer.Option(min=1, help="Threads of one inference.")] = 1,
    max_upload_mb: Annotated[float, typer.Option(min=0.001, help="Largest request, in MB; more gets 413.")] = 25.0,
    log_requests: Annotated[bool, typer.Option(help="One JSON line a request on standard error.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Serve the model installed on a site: verified, decrypted in RAM only, and checked before the first answer."""
    try:
        from toolkit.serving.app import build_app
        from toolkit.serving.assembly import Tuning, checked_access
        from toolkit.serving.gateway import Limits
        from toolkit.serving.runner import listen, run, url_of
    except ModuleNotFoundError as error:
        raise EnvironmentUnfit(
            f"serving needs {error.name}", hint="Install it: pip install 'distil-toolkit[serve]'"
        ) from error
    from toolkit.seal.memory import harden_process
    from toolkit.site.current import refusals_written_down

    harden_process()
    folder, passphrase = site_folder(site), unlock()
    largest = int(max_upload_mb * 1_000_000)
    limits = Limits(body_bytes=largest, requests=queue_limit, held_bytes=max(Limits.held_bytes, 2 * largest))
    tuning = Tuning(max_batch=max_batch, threads=threads, log_requests=log_requests, limits=limits)
    with listen(host, port) as listener, contextlib.ExitStack() as kept:
        with refusals_written_down(folder, "serve", passphrase):
            opened = _checked(folder, passphrase, kept)
            follower, metrics = _follower(opened, tuning)
            follower.begin()
        first = follower.fleet.find()
        _announce(first.facts, url_of(listener), as_json=as_json)
        _warn(folder, host, first.standing().message)
        app = build_app(
            models=follower.fleet, access=checked_access(folder), metrics=metrics, limits=limits,
            in_hand=follower.in_hand, log_requests=log_requests, beside=follower.following(),
        )  # fmt: skip
        run(app, listener, limits)


def _checked(folder: Path, passphrase: Unlock, kept: contextlib.ExitStack) -> Site:
    """The site, once all of it was checked; its slot among the servers that may run is `kept`."""
    from toolkit.site.current import installed_grant
    from toolkit.site.instances import instance
    from toolkit.site.layout import open_site
    from toolkit.site.verify import verify_site

    state = verify_site(folder).state
    opened = open_site(folder, passphrase)
    granted = [installed_grant(opened, served.bundle_id).validity.max_instances for served in state.served]
    limited = [most for most in granted if most is not None]
    kept.enter_context(instance(folder, min(limited) if limited else None))
    return opened


def _follower(site: Site, tuning: Tuning) -> tuple[Follower, Metrics]:
    """What keeps a server at what its site serves, and its figures."""
    from toolkit import defaults
    from toolkit.plugins import load_plugins
    from toolkit.resolve import thaw
    from toolkit.serving.assembly import loaded
    from toolkit.serving.fleet import InHand
    from toolkit.serving.following import Follower, Loaded
    from toolkit.serving.metrics import Metrics
    from toolkit.serving.models import read_facts
    from toolkit.site.watch import watched
    from toolkit.tasks.asking import ask_by
    from toolkit.tasks.base import task_named

    metrics = Metrics()

    def warm(at: Site, bundle: OpenedBundle) -> Loaded:
        manifest = bundle.manifest
        plugins = load_plugins(manifest.domain.name, defaults)
        facts = read_facts(
            bundle,
            bundle=manifest.bundle_id,
            version=f"{manifest.epoch}.{manifest.counter}",
            product=manifest.product,
            domain=manifest.domain.name,
            development_keys=manifest.development_keys,
        )
        others = ask_by(plugins, thaw(facts.plan, plugins.settings()))
        with contextlib.ExitStack() as ends:
            watch = ends.enter_context(watched(at, bundle))
            model = loaded(
                bundle, facts, runtime=task_named(facts.plan["task"]), tuning=tuning, metrics=metrics,
                standing=watch.standing,
                ask=lambda known, asked: plugins.hook.serve(site=at.path, bundle=known, predictor=asked, ask=others),
            )  # fmt: skip
            return Loaded(model, ends.pop_all())

    return Follower(site, warm, metrics, InHand(), tuning.limits.drain_seconds), metrics


def _announce(facts: BundleFacts, url: str, *, as_json: bool) -> None:
    keys = "development keys" if facts.development_keys else "site keys"
    marks = [f"API page {url}/docs", keys, *(["sample data"] if facts.sample else []), "Ctrl-C stops it"]
    line = f"Serving {facts.product} {facts.version} at {url} · {' · '.join(marks)}"
    record = {
        "url": url, "bundle": facts.id, "version": facts.version, "product": facts.product, "keys": keys,
        "sample": facts.sample,
    }  # fmt: skip
    emit(record, as_json=as_json, text=lambda console: console.print(line, markup=False))
    sys.stdout.flush()


def _warn(site: Path, host: str, standing: str) -> None:
    from toolkit.serving.access import list_keys

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if not list_keys(site):
        console.print(f"No API key yet: toolkit access add NAME --role infer --site {site}", markup=False)
    if standing:
        console.print(f"Note: {standing}", markup=False)
    if host not in LOOPBACK:
        console.print("Keys and pictures travel unencrypted: put a TLS proxy in front of it.", markup=False)
