"""Install the bundle on this machine's site, granting it to that site first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toolkit.artifacts import Artifact, Bundle, Facts, Installation
from toolkit.errors import IntegrityError, UsageError
from toolkit.seal.escrow import escrow_folder
from toolkit.seal.grant import grant
from toolkit.seal.recipient import load_recipient
from toolkit.site.fit import plugin_check
from toolkit.site.install import install
from toolkit.site.layout import init_site, is_site, open_site
from toolkit.site.trust import accept_root
from toolkit.site.verify import verify_site
from toolkit.stages.context import Context, Stage, Upstream, take
from toolkit.stages.seal import publisher_keys
from toolkit.workspace import Stored


def run(context: Context, upstream: Upstream, folder: Path) -> Facts:
    """`site init` where there is no site yet, a grant to it, and the installation."""
    context.report("install on the site", 0, 1)
    bundle, keys = take(upstream, "seal", Bundle), publisher_keys(context)
    if is_site(context.site):
        site = open_site(context.site, context.passphrase)
        if keys.trust.version > site.trust.version:
            accept_root(site, keys.trust.data)  # the home's root was rotated since
    site = init_site(context.site, keys.trust, passphrase=context.passphrase)
    grant(bundle.path, load_recipient(site.recipient_json), keys, escrow_folder(context.workspace.home))
    installed = install(bundle.path, site, check=plugin_check(lambda _: context.plugins, context.site))
    context.report("install on the site", 1, 1)
    return {
        "site": str(context.site),
        "bundle_id": installed.bundle_id,
        "product": installed.manifest.product,
        "version": installed.manifest.number,
        "custody": site.custody,
        "development_keys": bundle.facts["development_keys"],
    }


def inputs(context: Context) -> Mapping[str, Any]:
    return {"site": str(context.site.absolute())}


def stands(context: Context, artifact: Artifact) -> bool:
    """Whether the site still serves that bundle, whole."""
    if not is_site(context.site):
        return False
    try:
        checked = verify_site(context.site)
    except (IntegrityError, UsageError):
        return False
    return any(served.bundle_id == artifact.facts["bundle_id"] for served in checked.state.served)


def load(context: Context, stored: Stored) -> Installation:
    return Installation(context.site, stored.digest, stored.parents, stored.facts)


STAGE = Stage(
    name="install",
    kind="installation",
    keys=(),
    needs=("seal",),
    code=("toolkit.site", "toolkit.stages.install"),
    run=run,
    load=load,
    inputs=inputs,
    stands=stands,
)
