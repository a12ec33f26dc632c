"""Does this environment have what a bundle names: its domain, its toolkit version? And what do plugins say?

Names from the manifest are matched against installed entry points and never imported.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions, entry_points
from json import loads
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from toolkit import __version__
from toolkit.artifacts import Violation
from toolkit.plugins import DOMAINS, Plugins
from toolkit.protocols import Host
from toolkit.seal.manifest import Manifest

BY = "environment"


@dataclass(frozen=True)
class InstalledDomain:
    """A domain's distribution as installed here; `wheel_sha256` is '' where the installer did not record it."""

    version: str
    wheel_sha256: str = ""


def installed_domains() -> dict[str, InstalledDomain]:
    """The domains of this environment by name, none of them imported."""
    found = {}
    for entry in entry_points(group=DOMAINS):
        if entry.dist is not None:
            found[entry.name] = InstalledDomain(entry.dist.version, _wheel_sha256(entry.dist))
    return found


def environment_violations(manifest: Manifest, domains: Mapping[str, InstalledDomain]) -> Iterator[Violation]:
    """What this environment lacks for the bundle to be served here."""
    wanted = manifest.domain
    have = domains.get(wanted.name)
    if have is None:
        yield Violation(
            BY, f"the domain {wanted.name} is not installed here", ", ".join(sorted(domains)) or "none", wanted.name
        )
    elif not _within(have.version, wanted.versions):
        yield Violation(BY, f"the domain {wanted.name} has another version", have.version, wanted.versions)
    elif wanted.wheel_sha256 and have.wheel_sha256 not in ("", wanted.wheel_sha256):
        yield Violation(
            BY, f"the domain {wanted.name} was installed from another wheel", have.wheel_sha256, wanted.wheel_sha256
        )
    if not _within(__version__, f">={manifest.min_tool}"):
        yield Violation(BY, "the bundle needs a newer toolkit", __version__, f">={manifest.min_tool}")


def plugin_check(load: Callable[[str], Plugins], folder: Path) -> Callable[[Manifest], Iterator[Violation]]:
    """What the hook `check_install` says, as `install` asks it.

    Args:
        load: a fresh plugin manager for a domain's name; called only for a domain that is installed here.
        folder: where the site lies, for its free space.
    """

    def check(manifest: Manifest) -> Iterator[Violation]:
        for answer in load(manifest.domain.name).hook.check_install(
            manifest=manifest.as_record(), host=describe_host(folder)
        ):
            yield from answer

    return check


def describe_host(folder: Path) -> Host:
    """The machine at hand, with the free space where `folder` lies."""
    packages = {distribution.name: distribution.version for distribution in distributions()}
    return Host(platform.machine(), platform.system(), packages, shutil.disk_usage(folder).free)


def _within(version: str, wanted: str) -> bool:
    try:
        return SpecifierSet(wanted).contains(Version(version), prereleases=True)
    except (InvalidSpecifier, InvalidVersion):
        return False


def _wheel_sha256(dist: Distribution) -> str:
    text = dist.read_text("direct_url.json")
    archive = loads(text).get("archive_info", {}) if text else {}
    return str(archive.get("hashes", {}).get("sha256", ""))
