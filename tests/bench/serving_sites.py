"""A site of the benches' domain (serving_domain.py) with one bundle on it, whatever its task."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "core"))

from seal_parts import HEADER, LICENCE, make_home

from toolkit.artifacts import BundleFile
from toolkit.seal.bundle import seal_bundle
from toolkit.seal.manifest import DomainRef
from toolkit.serving.access import add_key
from toolkit.site.fit import InstalledDomain
from toolkit.site.install import install


def on_site(name: str, folder: Path, files: Mapping[str, bytes]) -> tuple[Path, str]:
    """Seal, grant and install a bundle's files, by role; the site, and a key for it."""
    home = make_home(folder)
    header = dataclasses.replace(HEADER, product=name, domain=DomainRef("bench", ">=0.1,<0.2"))
    packed = [LICENCE, *(BundleFile(role, data) for role, data in files.items())]
    sealed = seal_bundle(home.bundles, header=header, files=packed, keys=home.keys, escrow=home.escrow)
    site = home.site()
    home.grant(sealed.path, site)
    install(sealed.path, site, check=lambda manifest: (), domains={"bench": InstalledDomain("0.1.0")})
    return site.path, add_key(site.path, "bench", "infer")
