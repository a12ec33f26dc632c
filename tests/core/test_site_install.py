"""Installing, going back, and what stands in the way. Cases 18, 21, 23, 25 and 27 of the bundle design."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from seal_parts import (
    DOMAINS,
    HEADER,
    Home,
    blob_of,
    copy_of,
    files_of,
    flipped,
    make_home,
    overwrite,
    put,
    resign,
    snapshot,
)

from toolkit.artifacts import Violation
from toolkit.errors import EnvironmentUnfit, IntegrityError, Refused, UsageError
from toolkit.seal.grantfile import make_grant
from toolkit.seal.manifest import DomainRef, Manifest
from toolkit.seal.recipient import load_recipient
from toolkit.seal.tree import open_tree
from toolkit.seal.verify import read_envelope, verify_bundle
from toolkit.site.audit import AuditLog
from toolkit.site.current import open_current
from toolkit.site.fit import InstalledDomain, environment_violations, installed_domains
from toolkit.site.install import KEEP, install
from toolkit.site.layout import Site, init_site, is_site, open_site
from toolkit.site.rollback import promote, rollback
from toolkit.site.state import ALL, read_state
from toolkit.site.verify import verify_site


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


@pytest.fixture
def site(home: Home) -> Site:
    return home.site()


def serving(site: Site) -> bytes:
    with open_current(site.path) as opened:
        return opened.read("model")


def events(site: Site) -> list[str]:
    return [entry.event for entry in site.audit.entries()]


def test_an_installed_bundle_is_served_and_everything_on_disk_is_as_it_was_sealed(home: Home, site: Site) -> None:
    sealed = home.granted(site, b"weights", empty=b"")
    done = put(sealed.path, site)
    assert done.changed
    assert serving(site) == b"weights"
    assert snapshot(done.path) == snapshot(sealed.path)
    assert {path.stat().st_mode & 0o777 for path in files_of(done.path)} == {0o400}
    assert verify_bundle(done.path, site.trust) == sealed.manifest
    assert verify_site(site.path).state.current == sealed.manifest.bundle_id
    assert events(site) == ["site.init", "install.begin", "install.done"]
    assert not list(site.staging.iterdir())


def test_installing_the_same_again_changes_nothing(home: Home, site: Site) -> None:
    sealed = home.granted(site)
    put(sealed.path, site)
    before = snapshot(site.path)
    assert not put(sealed.path, site).changed
    assert snapshot(site.path) == before


def test_installing_again_mends_a_damaged_version(home: Home, site: Site) -> None:
    sealed = home.granted(site, b"weights", plan=b"plan")
    done = put(sealed.path, site)
    good = snapshot(done.path)
    blob = blob_of(done.path, done.manifest, "model")

    def a_folder_in_the_way() -> None:
        blob.unlink()
        (blob / "x").mkdir(parents=True)

    def a_link_in_the_way() -> None:
        (done.path / "blobs").rename(site.path / "moved")
        (done.path / "blobs").symlink_to(site.path / "moved")

    damages = [
        lambda: overwrite(blob, flipped(blob.read_bytes(), 9)),
        lambda: (done.path / "extra").write_bytes(b"x"),
        blob.unlink, a_folder_in_the_way, a_link_in_the_way, lambda: shutil.rmtree(done.path),
    ]  # fmt: skip
    for damage in damages:
        damage()
        with pytest.raises((IntegrityError, UsageError)):
            verify_site(site.path)
        assert put(sealed.path, site).changed
        assert snapshot(done.path) == good
        assert verify_site(site.path).state.current == done.bundle_id


def test_only_the_grant_for_this_site_is_kept(home: Home, site: Site) -> None:
    sealed = home.granted(site)
    mine = home.grant(sealed.path, site)
    home.grant(sealed.path, home.site("another"))
    done = put(sealed.path, site)
    assert [path.name for path in (done.path / "grants").iterdir()] == [mine.name]


@pytest.mark.parametrize("trial", [False, True])
def test_a_kept_version_that_is_not_the_newest_is_renewed_and_mended(trial: bool, home: Home, site: Site) -> None:
    old, new = home.granted(site, b"old"), home.granted(site, b"new")
    done = put(old.path, site)
    put(new.path, site, permille=100 if trial else ALL)
    if not trial:
        rollback(site)
    before = read_state(site.current, site.key_id)
    overwrite(blob_of(done.path, done.manifest, "model"), b"damaged")
    home.grant(old.path, site, renew=True)
    renewed = put(old.path, site)
    assert (renewed.changed, renewed.renewed) == (True, True)
    assert not put(old.path, site).changed
    after = read_state(site.current, site.key_id)
    assert after.served == before.served
    assert after.marks == before.marks
    assert {one.bundle_id for one in after.kept} == {one.bundle_id for one in before.kept}
    assert after.find(done.bundle_id).serial > before.find(done.bundle_id).serial
    assert serving(site) == b"old"
    verify_site(site.path)
    with pytest.raises(Refused, match="older than what was installed"):
        put(old.path, site, permille=100)


def test_a_state_that_is_written_is_not_undone_by_a_trail_that_is_not(
    home: Home, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(home.granted(site, b"first").path, site)
    append = AuditLog.append

    def full(log: AuditLog, event: str, details: dict[str, object]) -> object:
        if event == "install.done":
            raise EnvironmentUnfit("cannot write the trail: No space left on device")
        return append(log, event, details)

    with monkeypatch.context() as patch:
        patch.setattr(AuditLog, "append", full)
        done = put(home.granted(site, b"second").path, site)
    assert done.changed
    assert done.path.is_dir()
    assert serving(site) == b"second"
    put(home.granted(site, b"third").path, site)
    assert events(site)[-4:] == ["install.begin", "install.done", "install.begin", "install.done"]
    verify_site(site.path)


def test_what_cannot_be_removed_stops_nothing(home: Home, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    done = [put(home.granted(site, b"%d" % number).path, site) for number in range(KEEP)]
    remove = shutil.rmtree

    def refuse(path: Path, **how: bool) -> None:
        if path == done[0].path:
            raise PermissionError(13, "Permission denied", str(path))
        remove(path, **how)

    with monkeypatch.context() as patch:
        patch.setattr("toolkit.site.staging.shutil.rmtree", refuse)
        assert put(home.granted(site, b"last").path, site).changed
        assert serving(site) == b"last"
        rollback(site)
        assert done[0].path.exists()
    rollback(site)
    assert not done[0].path.exists()
    verify_site(site.path)


def test_another_bundle_in_a_kept_versions_folder_is_not_gone_back_to(home: Home, site: Site) -> None:
    first, second, third = (home.granted(site, b"%d" % number) for number in range(3))
    for one in (first, second, third):
        put(one.path, site)
    place = site.versions / second.manifest.bundle_id
    shutil.rmtree(place)
    shutil.copytree(site.versions / first.manifest.bundle_id, place)
    for change in (rollback, lambda site: promote(site, second.manifest.bundle_id)):
        with pytest.raises(IntegrityError, match="not what was installed"):
            change(site)
    assert serving(site) == b"2"
    assert put(second.path, site).renewed
    assert rollback(site).bundle_id == second.manifest.bundle_id
    verify_site(site.path)


def test_case_18_a_lower_counter_is_refused(home: Home, site: Site) -> None:
    old, new = home.granted(site, b"old"), home.granted(site, b"new")
    put(new.path, site)
    with pytest.raises(Refused, match="older than what was installed") as error:
        put(old.path, site)
    assert error.value.exit_code == 3
    assert serving(site) == b"new"
    assert events(site)[-1] == "install.refused"


def test_case_18_the_mark_outlives_a_rollback(home: Home, site: Site) -> None:
    bundles = [home.granted(site, model) for model in (b"one", b"two", b"three")]
    put(bundles[0].path, site)
    put(bundles[2].path, site)
    assert rollback(site).bundle_id == bundles[0].manifest.bundle_id
    assert serving(site) == b"one"
    with pytest.raises(Refused, match="older"):
        put(bundles[1].path, site)
    assert put(bundles[2].path, site).changed
    assert serving(site) == b"three"


def test_case_18_the_same_counter_with_another_content(home: Home, site: Site) -> None:
    first = home.granted(site, b"one")
    put(first.path, site)
    shutil.rmtree(home.bundles)  # the publisher lost count
    twin = home.granted(site, b"two")
    assert twin.manifest.counter == first.manifest.counter
    with pytest.raises(IntegrityError, match="another content"):
        put(twin.path, site)
    assert serving(site) == b"one"


def test_case_18_a_higher_epoch_recovers_from_a_counter_run_far_ahead(home: Home, site: Site) -> None:
    put(home.granted(site, b"one").path, site)
    (home.bundles / ".counters" / "industry").write_text("9007199254740000")
    put(home.granted(site, b"fast").path, site)
    shutil.rmtree(home.bundles)
    sealed = home.seal(b"recovered", header=replace(HEADER, epoch=2))
    home.grant(sealed.path, site)
    assert sealed.manifest.counter == 1
    put(sealed.path, site)
    assert serving(site) == b"recovered"


def test_marks_are_kept_for_each_product(home: Home, site: Site) -> None:
    for _ in range(2):
        put(home.granted(site).path, site)
    other = home.seal(b"other", header=replace(HEADER, product="other"))
    home.grant(other.path, site)
    put(other.path, site)
    assert {(mark.product, mark.counter) for mark in verify_site(site.path).state.marks} == {
        ("industry", 2), ("other", 1)
    }  # fmt: skip


def test_rollback_goes_to_a_kept_version_only(home: Home, site: Site) -> None:
    with pytest.raises(UsageError, match="nothing is installed"):
        rollback(site)
    bundles = [home.granted(site, str(n).encode()) for n in range(KEEP + 2)]
    for sealed in bundles:
        put(sealed.path, site)
    ids = [sealed.manifest.bundle_id for sealed in bundles]
    assert {path.name for path in site.versions.iterdir()} == set(ids[-KEEP:])
    with pytest.raises(Refused, match="does not keep"):
        rollback(site, ids[0])
    for bundle_id in reversed(ids[-KEEP:-1]):
        assert rollback(site).bundle_id == bundle_id
    assert serving(site) == str(2).encode()
    with pytest.raises(UsageError, match="no older version"):
        rollback(site)
    assert rollback(site, ids[-1]).changed
    assert not rollback(site, ids[-1]).changed
    assert events(site)[-2:] == ["rollback.begin", "rollback.done"]
    verify_site(site.path)


def test_case_27_rollback_to_a_damaged_version_is_refused(home: Home, site: Site) -> None:
    first = put(home.granted(site, b"one").path, site)
    put(home.granted(site, b"two").path, site)
    blob = blob_of(first.path, first.manifest, "model")
    overwrite(blob, flipped(blob.read_bytes(), 100))
    with pytest.raises(IntegrityError):
        rollback(site)
    assert serving(site) == b"two"


def test_a_violation_refuses_and_is_listed(home: Home, site: Site) -> None:
    sealed = home.granted(site)
    found = [Violation("gpu-target", "no such device", "none", "one"), Violation("plant", "not on Sundays")]
    with pytest.raises(Refused, match="no such device") as error:
        install(sealed.path, site, check=lambda manifest: found, domains=DOMAINS)
    assert "not on Sundays" in str(error.value)
    assert not list(site.versions.iterdir())
    assert events(site) == ["site.init", "install.refused"]


@pytest.mark.parametrize(
    ("wanted", "have"),
    [
        (DomainRef("industry", ">=0.1"), {}),
        (DomainRef("industry", ">=0.2"), DOMAINS),
        (DomainRef("industry", "nonsense"), DOMAINS),
        (DomainRef("industry", ">=0.1", "a" * 64), {"industry": InstalledDomain("0.1.0", "b" * 64)}),
    ],
)
def test_a_missing_domain_is_the_environments_fault(
    wanted: DomainRef, have: dict[str, InstalledDomain], home: Home, site: Site
) -> None:
    sealed = home.seal(header=replace(HEADER, domain=wanted))
    home.grant(sealed.path, site)
    with pytest.raises(EnvironmentUnfit, match="industry") as error:
        install(sealed.path, site, check=lambda manifest: pytest.fail("plugins are not asked"), domains=have)
    assert error.value.exit_code == 5
    assert not list(site.versions.iterdir())


def test_domains_that_fit(home: Home) -> None:
    for have in (InstalledDomain("0.1.0"), InstalledDomain("0.1.9", "a" * 64)):
        manifest = home.seal(header=replace(HEADER, domain=DomainRef("industry", ">=0.1,<0.2", "a" * 64))).manifest
        assert not list(environment_violations(manifest, {"industry": have}))
    newer = replace(manifest, min_tool="99.0")
    assert [one.because for one in environment_violations(newer, DOMAINS)] == ["the bundle needs a newer toolkit"]


def test_installed_domains_are_read_without_importing_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "distil_toolkit_forest-2.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: distil-toolkit-forest\nVersion: 2.3\n")
    (info / "entry_points.txt").write_text("[toolkit.domains]\nforest = no_such_module_anywhere\n")
    (info / "direct_url.json").write_text(json.dumps({"archive_info": {"hashes": {"sha256": "c" * 64}}}))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert installed_domains()["forest"] == InstalledDomain("2.3", "c" * 64)


def test_case_23_a_bundle_larger_than_the_free_space(home: Home, site: Site) -> None:
    sealed = home.granted(site)

    def grow(body: dict[str, Any]) -> None:
        file = body["variants"][0]["files"][0] | {"cipher_size": 2 * 1024**3}
        body["variants"][0]["files"] += [
            file | {"role": f"r{n}", "path": f"r{n}", "cipher_sha256": f"{n:064x}"} for n in range(4000)
        ]

    resign(sealed.path, home.keys, grow)
    _regrant(home, sealed.path, site)
    with pytest.raises(EnvironmentUnfit, match="MB free"):
        put(sealed.path, site)
    assert not list(site.versions.iterdir())


def test_case_23_a_disk_that_fills_up_while_copying(home: Home, site: Site) -> None:
    # RLIMIT_FSIZE stands for the full disk: the kernel refuses the write that goes beyond it (EFBIG).
    sealed = home.granted(site, b"w" * 300_000)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
    try:
        with pytest.raises(EnvironmentUnfit, match="cannot write"):
            put(sealed.path, site)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert not list(site.versions.iterdir())
    assert not list(site.staging.iterdir())
    assert events(site)[-1] == "install.refused"
    assert put(sealed.path, site).changed


def test_case_21_a_file_swapped_while_it_is_copied_is_not_installed(home: Home, site: Site) -> None:
    sealed = home.granted(site, b"w" * 50_000)
    blob = blob_of(sealed.path, sealed.manifest, "model")
    with pytest.raises(UsageError, match="nothing is installed"):
        open_current(site.path)

    def swap(manifest: Manifest) -> list[Violation]:
        # Everything was read by now: what lies at the source no longer matters.
        overwrite(blob, b"x")
        return []

    done = install(sealed.path, site, check=swap, domains=DOMAINS)
    assert verify_bundle(done.path, site.trust) == sealed.manifest
    assert serving(site) == b"w" * 50_000


def test_case_25_two_installs_at_once(home: Home, site: Site) -> None:
    bundles = [home.granted(site, b"x" * 200_000), home.granted(site, b"y" * 200_000)]
    code = (
        "import sys; from pathlib import Path; from toolkit.errors import ToolkitError;"
        "from toolkit.site.install import install; from toolkit.site.layout import open_site;"
        "from toolkit.site.fit import InstalledDomain as D\n"
        "site, have = open_site(Path(sys.argv[2])), {'industry': D('0.1.0')}\n"
        "try: install(Path(sys.argv[1]), site, check=lambda m: (), domains=have)\n"
        "except ToolkitError as e: sys.exit(e.exit_code)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(sealed.path), str(site.path)])
        for sealed in (bundles[1], bundles[0], bundles[1])
    ]
    codes = [process.wait(timeout=60) for process in running]
    assert (codes[0], codes[2]) == (0, 0)
    assert codes[1] in (0, 3)  # the older one came first, or was refused as older
    assert serving(site) == b"y" * 200_000
    verify_site(site.path)


def test_case_25_an_install_while_a_bundle_is_open(home: Home, site: Site) -> None:
    first, second = home.granted(site, b"one", plan=b"plan one"), home.granted(site, b"two")
    put(first.path, site)
    with open_current(site.path) as opened:
        assert opened.read("model") == b"one"
        put(second.path, site)
        assert opened.read("plan") == b"plan one"
    assert serving(site) == b"two"


def test_leftovers_are_cleared(home: Home, site: Site) -> None:
    sealed = home.granted(site)
    site.staging.mkdir(exist_ok=True)
    (site.staging / "stale").mkdir()
    (site.staging / "stale" / "x").write_bytes(b"x")
    (site.versions / "orphan").mkdir()
    put(sealed.path, site)
    assert not list(site.staging.iterdir())
    assert [path.name for path in site.versions.iterdir()] == [sealed.manifest.bundle_id]


def test_a_site_is_made_once_and_keeps_its_root(home: Home, site: Site, tmp_path: Path) -> None:
    again = init_site(site.path, home.keys.trust)
    assert (again.key_id, again.trust) == (site.key_id, site.trust)
    with pytest.raises(UsageError, match="trusts another root"):
        init_site(site.path, make_home(tmp_path / "other").keys.trust)
    assert site.custody == "development"
    assert {path.stat().st_mode & 0o777 for path in (site.path / "keys").iterdir()} == {0o600}


def test_a_site_with_a_passphrase(home: Home, tmp_path: Path) -> None:
    locked = init_site(tmp_path / "locked", home.keys.trust, passphrase="open sesame")
    sealed = home.granted(locked, b"weights")
    assert locked.custody == "passphrase"
    with pytest.raises(UsageError, match="locked by a passphrase"):
        put(sealed.path, open_site(locked.path))
    put(sealed.path, locked)
    with open_current(locked.path, "open sesame") as opened:
        assert opened.read("model") == b"weights"
    with pytest.raises(IntegrityError, match="passphrase does not open"):
        open_current(locked.path, "open barley")
    assert verify_site(locked.path).state.current == sealed.manifest.bundle_id


def test_a_site_cut_short_while_it_was_made_is_taken_up(home: Home, tmp_path: Path) -> None:
    made = home.site("made")
    for gone in ("current", "recipient.json", "audit", "trust"):
        half = copy_of(made.path, tmp_path / f"without-{gone}")
        (half / "current").unlink()
        if (half / gone).is_dir():
            shutil.rmtree(half / gone)
        elif gone != "current":
            (half / gone).unlink()
        assert not is_site(half)
        assert init_site(half, home.keys.trust).key_id == made.key_id
        verify_site(half)


def test_a_flipped_bit_in_any_signed_file_of_a_site_is_found(home: Home, site: Site) -> None:
    put(home.granted(site).path, site)
    keys = {site.path / "keys" / name for name in ("site.key.json", "recipient.key.json")}
    for path in files_of(site.path):
        if path in keys or path.name == ".lock":
            continue
        data = path.read_bytes()
        for position in range(0, len(data), max(1, len(data) // 12)):
            overwrite(path, flipped(data, 8 * position + position % 8))
            with pytest.raises(IntegrityError):
                verify_site(site.path)
        overwrite(path, data)
    verify_site(site.path)


def test_another_root_of_trust_put_into_a_site_is_found(home: Home, site: Site, tmp_path: Path) -> None:
    put(home.granted(site).path, site)
    overwrite(site.path / "trust" / "root.json", make_home(tmp_path / "other").keys.trust.data)
    with pytest.raises(IntegrityError) as error:
        verify_site(site.path)
    assert error.value.part == "trust/root.json"


def test_an_older_state_put_back_is_found(home: Home, site: Site) -> None:
    put(home.granted(site, b"one").path, site)
    old = site.current.read_bytes()
    put(home.granted(site, b"two").path, site)
    overwrite(site.current, old)
    with pytest.raises(IntegrityError, match="different versions"):
        verify_site(site.path)


def test_a_database_beside_it_changes_nothing(home: Home, site: Site) -> None:
    put(home.granted(site, b"weights").path, site)
    (site.path / "state.db").write_bytes(b"UPDATE versions SET current = 'other', counter = 0")
    assert serving(site) == b"weights"
    assert read_state(site.current, site.key_id).mark("industry") is not None
    verify_site(site.path)


def _regrant(home: Home, bundle: Path, site: Site) -> None:
    """A grant for a manifest that was signed again; its keys do not matter here."""
    with open_tree(bundle) as root:
        manifest, _ = read_envelope(root, home.keys.trust)
    shutil.rmtree(bundle / "grants")
    grant_id, data = make_grant(
        bundle_id=manifest.bundle_id, manifest_sha256=manifest.digest, serial=1,
        recipient=load_recipient(site.recipient_json), issuer=home.keys.issuer, content_keys={"cpu": bytes(32)},
    )  # fmt: skip
    (bundle / "grants").mkdir()
    (bundle / "grants" / f"{grant_id}.dsse").write_bytes(data)
