"""`toolkit status`: what a site serves, keeps and trusts."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from toolkit.cli.output import JsonFlag, emit
from toolkit.cli.places import SiteOption, say, site_folder


def status(site: SiteOption = None, as_json: JsonFlag = False) -> None:
    """The versions of each product, those to roll back to, and what guards the keys. Needs no passphrase."""
    from toolkit.site.layout import open_site
    from toolkit.site.standing import installed_manifest, standing_of, trial_of
    from toolkit.site.state import read_state, versions_of

    opened = open_site(site_folder(site))
    state = read_state(opened.current, opened.key_id)
    record: dict[str, Any] = {
        "site": str(opened.path), "current": state.current, "kept": [version.bundle_id for version in state.kept],
        "custody": opened.custody, "root": opened.trust.fingerprint, "root_version": opened.trust.version,
        "revoked_version": state.revoked.version, "audit_sequence": opened.audit.head().sequence,
        "development_keys": opened.trust.development or opened.custody == "development",
        "products": versions_of(state),
    }  # fmt: skip
    if state.current:
        manifest = installed_manifest(opened, state.current)
        record |= {
            "product": manifest.product, "epoch": manifest.epoch, "counter": manifest.counter,
            "sealed": manifest.created, "domain": manifest.domain.name,
            "grant": standing_of(opened, state.current),
            "variants": [{"name": v.name, "profile": v.profile, "rung": v.rung} for v in manifest.variants],
        }  # fmt: skip
    compared = trial_of(opened)
    for product in record["products"]:
        for version in product["versions"]:
            version["metrics"] = compared.get(version["bundle"])
        files = installed_manifest(opened, product["serving"]).files
        product["grant"] = standing_of(opened, product["serving"])
        product["licences"] = sorted(file.path for file in files if file.path.startswith("LICENSES/"))

    def text(console: Console) -> None:
        keys = "development keys, not for production" if record["development_keys"] else f"keys by {opened.custody}"
        say(console, f"site     {opened.path} ({keys})")
        if not state.served:
            say(console, "current  nothing is installed")
        for product in record["products"]:
            _show_product(console, product)
        say(console, f"root     version {opened.trust.version}, {opened.trust.fingerprint}")
        say(console, f"audit    {record['audit_sequence']} entries")

    emit(record, as_json=as_json, text=text)


def _show_product(console: Console, product: dict[str, Any]) -> None:
    say(console, f"product  {product['product']}")
    for version in product["versions"]:
        state, bundle = {"serving": "current"}.get(version["state"], version["state"]), version["bundle"]
        more = f" answers {version['share']:.1%} on trial" if state == "canary" else ""
        say(console, f"{state:<8} {bundle}{more}{': ' + version['why'] if 'why' in version else ''}")
        if figures := version["metrics"]:
            same = "" if figures["agreement"] is None else f", {figures['agreement']:.1%} agree with the other version"
            say(
                console,
                f"         {figures['requests']} answers, {figures['error_share']:.1%} faults, "
                f"p95 {figures['p95_ms'] or 0:g} ms{same}",
            )
        if state == "current":
            say(console, f"grant    {_granted(product['grant'])}")
            if product["licences"]:
                say(console, f"licences {', '.join(product['licences'])}")


def _granted(grant: dict[str, Any]) -> str:
    """A line on the grant: how it stands, or what it is limited to."""
    until = f"until {grant['not_after']}" if grant["not_after"] else "without an end"
    servers = f", {grant['max_instances']} servers at once" if grant["max_instances"] else ""
    return f"serial {grant['serial']}, {until}{servers}" + (f" · {grant['message']}" if grant["message"] else "")
