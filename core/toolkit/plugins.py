"""Finding plugins: by entry point, one by one, into a fresh manager; broken and clashing ones are named.

Nothing is global: a run, a verb and a test each ask for a manager of their own.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, distributions
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from toolkit import hookspecs
from toolkit.errors import PluginError, UsageError, unknown_name
from toolkit.plan import Plan, Section
from toolkit.protocols import CipherSuite, Executor, HardwareProfile, KeyProvider, Recipe, Settings, Target
from toolkit.text_teachers import AnyTeacher

DOMAINS, PLUGINS = "toolkit.domains", "toolkit.plugins"


@dataclass(frozen=True)
class PluginInfo:
    """An installed plugin: who ships it, and what is wrong with it if it did not load."""

    name: str
    group: str
    distribution: str
    version: str
    module: str
    broken: str = ""


@dataclass(frozen=True)
class Plugins:
    """The hooks of one run: core, all plugins, and at most one domain."""

    manager: pluggy.PluginManager
    infos: Sequence[PluginInfo]
    domain: str = ""

    @property
    def hook(self) -> pluggy.HookRelay:
        return self.manager.hook

    def offered(self, hook: str, kind: str) -> dict[str, Any]:
        """What plugins offer through a `register_*` hook, by name; one that raises there is named."""
        found: dict[str, Any] = {}
        for item in self._registered(hook):
            if item.name in found:
                both = f"{self.distribution_of(found[item.name])} and {self.distribution_of(item)}"
                raise PluginError(
                    f"two {kind}s are named {item.name}: by {both}", hint="Uninstall one of the distributions."
                )
            found[item.name] = item
        return found

    def _registered(self, hook: str) -> Iterator[Any]:
        for implementation in getattr(self.hook, hook).get_hookimpls():
            try:
                yield from implementation.function()
            except Exception as error:
                raise PluginError(
                    f"{implementation.plugin_name} fails in {hook}: {type(error).__name__}: {error}",
                    hint="Mend or uninstall that plugin.",
                    plugin=implementation.plugin_name,
                ) from error

    def teachers(self) -> dict[str, AnyTeacher]:
        return self.offered("register_teachers", "teacher")

    def recipes(self) -> dict[str, Recipe]:
        return self.offered("register_recipes", "recipe")

    def executors(self) -> dict[str, Executor]:
        return self.offered("register_executors", "executor")

    def key_providers(self) -> dict[str, KeyProvider]:
        return self.offered("register_key_providers", "key provider")

    def cipher_suites(self) -> dict[str, CipherSuite]:
        return self.offered("register_cipher_suites", "cipher suite")

    def targets(self) -> dict[str, Target]:
        return self.offered("register_targets", "target")

    def profiles(self) -> dict[str, tuple[HardwareProfile, Target]]:
        """Every hardware profile, by name, with the target that builds for it."""
        found: dict[str, tuple[HardwareProfile, Target]] = {}
        for target in self.targets().values():
            for profile in target.profiles():
                if profile.name in found:
                    both = f"{self.distribution_of(found[profile.name][1])} and {self.distribution_of(target)}"
                    raise PluginError(f"two profiles are named {profile.name}: by {both}", hint="Uninstall one.")
                found[profile.name] = (profile, target)
        return found

    def settings(self) -> dict[str, type[Section]]:
        """Settings models by the name of their table."""
        return {name: settings.model for name, settings in self._settings().items()}

    def _settings(self) -> dict[str, Settings]:
        found: dict[str, Settings] = {}
        for item in self._registered("register_settings"):
            if item.section in found:
                raise PluginError(f"two plugins want the table [{item.section}]", hint="Uninstall one of them.")
            if item.section in Plan.model_fields:
                raise PluginError(
                    f"{item.model.__module__} wants the table [{item.section}], which is core's",
                    hint="A plugin's table bears the plugin's name.",
                )
            found[item.section] = item
        return found

    def offers_of(self, info: PluginInfo) -> list[str]:
        """What one plugin offers by name: `teacher efficientnet-lite0`, `target cpu`, ..."""
        offered: dict[str, Mapping[str, object]] = {
            "teacher": self.teachers(),
            "recipe": self.recipes(),
            "target": self.targets(),
            "executor": self.executors(),
            "key provider": self.key_providers(),
            "cipher suite": self.cipher_suites(),
        }
        package = info.module.partition(".")[0]
        return [
            f"{kind} {name}"
            for kind, items in offered.items()
            for name, item in items.items()
            if self.source_of(item) == package
        ]

    def section_values(self, plan: Plan, stage: str) -> dict[str, Any]:
        """What `stage` reads of the tables of plugins, JSON-ready."""
        values: dict[str, Any] = {}
        for name, settings in self._settings().items():
            table = getattr(plan, name).model_dump(mode="json")
            keys = table if settings.read_by is None else settings.read_by.get(stage, ())
            values |= {f"{name}.{key}": table[key] for key in keys}
            for key in settings.teachers:
                if key in keys and table[key]:
                    values[f"{name}.{key}"] = self.teacher_named(table[key]).fingerprint(plan)
        return values

    def teacher_named(self, name: str) -> AnyTeacher:
        """Raises PlanError, naming those that are offered."""
        offered = self.teachers()
        if name not in offered:
            raise unknown_name("teacher", name, offered)
        return offered[name]

    def named_teachers(self, plan: Plan) -> Iterator[AnyTeacher]:
        """The teachers that tables of plugins name, beside the plan's own. Raises PlanError where one is none."""
        for name, settings in self._settings().items():
            table = getattr(plan, name)
            yield from (self.teacher_named(getattr(table, key)) for key in settings.teachers if getattr(table, key))

    def code_version(self, *modules: str) -> str:
        """A digest of the sources of these modules or packages: it changes when their code does."""
        digest = hashlib.sha256()
        for name in sorted(modules):
            for path in source_files(name):
                digest.update(path.name.encode() + b"\0" + path.read_bytes())
        return digest.hexdigest()

    def distribution_of(self, item: object) -> str:
        """Who ships it, by the name that pip knows."""
        package = self.source_of(item)
        return next((i.distribution for i in self.infos if i.module.partition(".")[0] == package), package)

    def source_of(self, item: object) -> str:
        """The top package of the plugin that offers `item`."""
        return type(item).__module__.partition(".")[0]

    def domain_package(self) -> str:
        """The top package of the domain's module."""
        modules = [info.module for info in self.infos if info.group == DOMAINS and info.name == self.domain]
        return modules[0].partition(".")[0] if modules else ""


def load_plugins(domain: str | None, defaults: ModuleType | object) -> Plugins:
    """A fresh manager with core's defaults, every plugin, and `domain` alone of the domains.

    Args:
        domain: what `--domain` says, or None for verbs that need none.
        defaults: core's own hook answers.

    Raises:
        UsageError: no such domain is installed (exit 2). PluginError: it is broken (exit 5).
    """
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(defaults, "core")
    infos: list[PluginInfo] = []
    # pluggy asks the last registered first: the domain answers before plugins, and plugins before core
    entries = sorted(_entries(), key=lambda pair: (pair[0].group == DOMAINS, pair[0].name))
    _refuse_twins(entries)
    for entry, distribution in entries:
        if entry.group == DOMAINS and domain is not None and entry.name != domain:
            infos.append(_info(entry, distribution))
            continue
        infos.append(_info(entry, distribution, broken=_register(manager, entry)))
    if domain is not None:
        _require_domain(domain, infos)
    return Plugins(manager, tuple(infos), domain or "")


def source_files(module: str) -> list[Path]:
    """The Python files of an importable module or package, found without importing it."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return []
    if spec.submodule_search_locations:
        return sorted(p for folder in spec.submodule_search_locations for p in Path(folder).rglob("*.py"))
    return [Path(spec.origin)]


def _entries() -> list[tuple[EntryPoint, Distribution]]:
    seen: dict[tuple[str, str, str], tuple[EntryPoint, Distribution]] = {}
    for distribution in distributions():
        for entry in distribution.entry_points:
            if entry.group in (DOMAINS, PLUGINS):
                seen.setdefault((entry.group, entry.name, distribution.name), (entry, distribution))
    return list(seen.values())


def _refuse_twins(entries: Sequence[tuple[EntryPoint, Distribution]]) -> None:
    owners: dict[tuple[str, str], str] = {}
    for entry, distribution in entries:
        other = owners.setdefault((entry.group, entry.name), distribution.name)
        if other != distribution.name:
            raise PluginError(
                f"{other} and {distribution.name} both register {entry.name} in {entry.group}",
                hint="Uninstall one of them.",
            )


def _register(manager: pluggy.PluginManager, entry: EntryPoint) -> str:
    """Load and register one entry point; the reason where that failed. A stranger's module may raise anything."""
    try:
        plugin = entry.load()
        manager.register(plugin, f"{entry.group.rpartition('.')[2]}:{entry.name}")
        manager.check_pending()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - reported by name; raised where the plan needs the plugin
        name = f"{entry.group.rpartition('.')[2]}:{entry.name}"
        if manager.has_plugin(name):
            manager.unregister(name=name)
        return f"{type(error).__name__}: {error}"
    return ""


def _info(entry: EntryPoint, distribution: Distribution, broken: str = "") -> PluginInfo:
    return PluginInfo(entry.name, entry.group, distribution.name, distribution.version, entry.module, broken)


def _require_domain(domain: str, infos: Sequence[PluginInfo]) -> None:
    known = {info.name: info for info in infos if info.group == DOMAINS}
    if domain not in known:
        names = ", ".join(sorted(known)) or "none"
        raise UsageError(f"no domain named {domain} is installed", hint=f"Installed domains: {names}.")
    if known[domain].broken:
        raise PluginError(
            f"the domain {domain} does not load: {known[domain].broken}",
            hint=f"Mend or reinstall {known[domain].distribution}.",
            plugin=known[domain].distribution,
        )
