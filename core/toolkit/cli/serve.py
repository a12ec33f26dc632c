"""`toolkit serve`: answer inspections with the model installed on a site."""

from __future__ import annotations

import contextlib
import importlib
import os
import ssl
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from toolkit.cli.output import JsonFlag, emit
from toolkit.cli.places import SiteOption, site_folder, unlock
from toolkit.errors import EnvironmentUnfit, UsageError

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(
    site: SiteOption = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for every network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8080,
    queue_limit: Annotated[int, typer.Option(min=1, help="Requests in progress at once; more get 503.")] = 256,
    max_batch: Annotated[int, typer.Option(min=1, max=1024, help="Requests that run together at most.")] = 16,
    threads: Annotated[
        int, typer.Option(min=0, help="Threads of one inference; 0 takes one, and for a model of text one a core.")
    ] = 0,
    workers: Annotated[
        int, typer.Option(min=0, max=64, help="Processes that answer; 0: one a core, two at least; one for texts.")
    ] = 0,
    max_upload_mb: Annotated[float, typer.Option(min=0.001, help="Largest request, in MB; more gets 413.")] = 25.0,
    log_requests: Annotated[bool, typer.Option(help="One JSON line a request on standard error.")] = False,
    grpc_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Answer KServe v2 over gRPC at this port as well.")
    ] = None,
    otlp: Annotated[
        str | None,
        typer.Option(help="URL of an OpenTelemetry collector on a private network: send it traces by OTLP over HTTP."),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option("--tls-cert", help="PEM of the server's certificate chain: serve HTTPS.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", help="PEM of the certificate's key.")] = None,
    client_ca: Annotated[
        Path | None, typer.Option("--client-ca", help="PEM of authorities: only their clients may connect (mTLS).")
    ] = None,
    rollback_errors: Annotated[
        float, typer.Option(min=0, max=1, help="A new version with more faults than this share is taken back; 1: none.")
    ] = 0.1,
    rollback_within: Annotated[float, typer.Option(min=0, help="For so many seconds a version counts as new.")] = 300.0,
    as_json: JsonFlag = False,
) -> None:
    """Serve what is installed on a site: verified, decrypted in RAM only, and checked before the first answer. What is
    installed, promoted or rolled back there meanwhile is taken up without a restart."""
    try:
        from toolkit.cli.worker import Worker
        from toolkit.serving.assembly import Tuning, servers_of, tracing_to
        from toolkit.serving.limits import GrpcAddress, Limits
        from toolkit.serving.runner import listen, url_of
        from toolkit.serving.supervisor import Supervisor
        from toolkit.serving.trial import Tolerance
    except ModuleNotFoundError as error:
        raise EnvironmentUnfit(
            f"serving needs {error.name}", hint="Install it: pip install 'distil-toolkit[serve]'"
        ) from error
    from toolkit.seal.memory import harden_process
    from toolkit.serving.shared import Shared
    from toolkit.site.current import refusals_written_down

    harden_process()
    folder, passphrase = site_folder(site), unlock()
    largest = int(max_upload_mb * 1_000_000)
    limits = Limits(body_bytes=largest, requests=queue_limit, held_bytes=max(Limits.held_bytes, 2 * largest))
    tls = _tls(tls_cert, tls_key, client_ca)
    grpc = grpc_port and GrpcAddress(_address(host, grpc_port), tls_cert, tls_key, client_ca)
    tuning = Tuning(
        max_batch, threads=threads, preparers=preparers_for(workers, threads), log_requests=log_requests,
        limits=limits, grpc=grpc or None, tracing=tracing_to(otlp) if otlp else None,
    )  # fmt: skip
    servers_of(tuning)  # what is not installed is told now
    with listen(host, port) as listener, contextlib.ExitStack() as kept:
        with refusals_written_down(folder, "serve", passphrase):
            _check(folder, kept)

        def first(facts: Mapping[str, Any]) -> int:
            wanted = workers or workers_for(str(facts["task"]))
            _announce(facts, url_of(listener, tls=tls is not None), wanted, as_json=as_json)
            _warn(folder, host, str(facts["standing"]), tls=tls is not None)
            _import_all(facts["modules"])
            return wanted

        tolerance = Tolerance(rollback_errors, rollback_within)
        shared = Shared()
        work = Worker(folder, passphrase, tuning, tolerance, listener, tls, shared)
        Supervisor(work, limits.drain_seconds, shared.spread.leave).run(listener, first)


def _tls(certificate: Path | None, key: Path | None, client_ca: Path | None) -> ssl.SSLContext | None:
    """TLS as the options say. Raises UsageError where one of them lacks another."""
    from toolkit.serving.tls import server_context

    if certificate is None or key is None:
        if certificate or key or client_ca:
            raise UsageError("TLS needs a certificate and its key", hint="Give both: --tls-cert FILE --tls-key FILE.")
        return None
    return server_context(certificate, key, client_ca)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def workers_for(task: str) -> int:
    """How many workers serve a task: one a core where each request is short and its model runs on one thread, for what
    is around the model is Python's, and two at least, so that another one answers where one dies; one where a model
    writes, for its requests are answered side by side, and each worker would hold the whole model.
    `tests/bench/soak.py --workers N` says the peak of any other number."""
    return 1 if task == "text_generation" else max(2, len(os.sched_getaffinity(0)))


def preparers_for(workers: int, threads: int) -> int:
    """How many threads of a worker make inputs beside its model: none where the workers' models have all cores
    already: there a thread more only takes turns with them."""
    from toolkit.serving.batching import PREPARERS

    cores = len(os.sched_getaffinity(0))
    return 0 if (workers or cores) * max(1, threads) >= cores else PREPARERS


def _import_all(modules: Iterable[str]) -> None:
    """What the first worker needed in the end, so that those after it come to life at once: half their time goes into
    imports. No module of ours or of a domain starts a thread when it is imported; see `test_serving_workers`."""
    for name in modules:
        if name not in sys.modules:
            with contextlib.suppress(ImportError):  # made by another module, not by a file of that name
                importlib.import_module(name)


def _check(folder: Path, kept: contextlib.ExitStack) -> None:
    """All of the site, without a key, once for all workers. Its slot among the servers that may run is `kept`, and what
    its domains need is imported, so that a worker comes to life at once."""
    from toolkit import defaults
    from toolkit.plugins import load_plugins
    from toolkit.site.current import installed_grant
    from toolkit.site.instances import instance
    from toolkit.site.standing import installed_manifest
    from toolkit.site.verify import verify_site

    checked = verify_site(folder)
    served = [installed_grant(checked.site, one.bundle_id).validity for one in checked.state.served]
    limited = [grant.max_instances for grant in served if grant.max_instances is not None]
    kept.enter_context(instance(folder, min(limited) if limited else None))
    for one in checked.state.served:
        load_plugins(installed_manifest(checked.site, one.bundle_id).domain.name, defaults)


def _announce(facts: Mapping[str, Any], url: str, workers: int, *, as_json: bool) -> None:
    keys = "development keys" if facts["development_keys"] else "site keys"
    marks = [f"API page {url}/docs", keys, *(["sample data"] if facts["sample"] else []), "Ctrl-C stops it"]
    line = f"Serving {facts['product']} {facts['version']} at {url} · {' · '.join(marks)}"
    record = {name: facts[name] for name in ("bundle", "version", "product", "sample")}
    record |= {"url": url, "keys": keys, "workers": workers}
    emit(record, as_json=as_json, text=lambda console: console.print(line, markup=False))
    sys.stdout.flush()


def _warn(site: Path, host: str, standing: str, *, tls: bool) -> None:
    from toolkit.serving.access import list_keys

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if not list_keys(site):
        console.print(f"No API key yet: toolkit access add NAME --role infer --site {site}", markup=False)
    if standing:
        console.print(f"Note: {standing}", markup=False)
    if host not in LOOPBACK and not tls:
        console.print(
            "Keys and pictures travel unencrypted: give --tls-cert and --tls-key, or put a TLS proxy in front of it.",
            markup=False,
        )
