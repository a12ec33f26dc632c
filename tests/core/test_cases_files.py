"""Cases 21, 23, 25 and 27 of the bundle design: what lies there, is swapped, is full, or changes meanwhile."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from case_parts import MODEL, installed, not_installed, plaintext, refusal, refused, run
from seal_parts import Home, blob_of, flipped, overwrite

from toolkit.seal.bundle import SealedBundle
from toolkit.site.current import open_current
from toolkit.site.layout import init_site
from toolkit.site.verify import verify_site


def test_case_21_links_pipes_sockets_and_setuid_files(home: Home, sealed: SealedBundle, tmp_path: Path) -> None:
    blob = blob_of(sealed.path, sealed.manifest, "model")
    data, aside = blob.read_bytes(), tmp_path / "aside"
    aside.write_bytes(data)

    def with_socket() -> None:
        # A socket's path may be 107 characters long; the folder is entered to stay below that.
        with socket.socket(socket.AF_UNIX) as made:
            here = Path.cwd()
            os.chdir(blob.parent)
            try:
                made.bind(blob.name)
            finally:
                os.chdir(here)

    hostile = {
        "symlink": lambda: blob.symlink_to(aside),
        "hard link": lambda: blob.hardlink_to(aside),
        "pipe": lambda: os.mkfifo(blob),
        "socket": with_socket,
        "setuid": lambda: (blob.write_bytes(data), blob.chmod(0o4600)),
        "folder": lambda: (blob.mkdir(), (blob / "x").write_bytes(b"")),
    }
    for make in hostile.values():
        blob.unlink()
        make()
        refused(sealed.path, home)
        if blob.is_dir():
            (blob / "x").unlink()
            blob.rmdir()
            blob.write_bytes(data)


def test_case_21_a_linked_folder_inside_and_a_linked_bundle(home: Home, sealed: SealedBundle, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(sealed.path)
    refused(link, home)
    (sealed.path / "blobs").rename(tmp_path / "blobs")
    (sealed.path / "blobs").symlink_to(tmp_path / "blobs")
    refused(sealed.path, home)


SWAP = """
import os, sys
place, good, bad = sys.argv[1:]
for n in range(100_000_000):
    # A link and a rename: the name is never missing, now this, now that.
    aside = place + ".aside"
    os.symlink(bad, aside) if n % 3 == 0 else os.link(bad if n % 3 == 1 else good, aside)
    os.rename(aside, sys.argv[1])
    os.path.exists(aside) and os.unlink(aside)
"""


def test_case_21_swapped_between_check_and_use(home: Home, sealed: SealedBundle, tmp_path: Path) -> None:
    blob = blob_of(sealed.path, sealed.manifest, "model")
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_bytes(blob.read_bytes())
    bad.write_bytes(flipped(blob.read_bytes(), 9999))
    # The place swapped lies outside the bundle's listing; the blob's name is what is replaced.
    code = SWAP.replace('place + ".aside"', "sys.argv[2] + '.aside'")
    with subprocess.Popen([sys.executable, "-c", code, str(blob), str(good), str(bad)]) as swapping:
        try:
            for _ in range(25):
                said = run("install", sealed.path, "--json")
                assert said.code in (0, 4), said
                verify_site(home.site().path)
        finally:
            swapping.kill()
    assert not plaintext(tmp_path)


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip("a small disk cannot be mounted here; RLIMIT_FSIZE stands for it in test_site_install.py")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_case_23_a_full_disk(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk(tmp_path / "disk", "1m") as disk:
        site = init_site(disk / "site", home.keys.trust)
        small = home.granted(site, MODEL)
        big = home.granted(site, MODEL * 30)
        assert "MB free" in not_installed(big.path, home, 5, site).message
        # The room was there when it was looked for, and is gone now.
        monkeypatch.setattr("toolkit.site.install.MARGIN", -(10**9))
        assert "cannot write" in not_installed(big.path, home, 5, site).message
        assert run("install", small.path, "--site", site.path).code == 0
        assert verify_site(site.path).state.current == small.manifest.bundle_id
        assert not_installed(big.path, home, 5, site)


def test_case_25_two_installs_at_once_and_a_reader(home: Home, tmp_path: Path) -> None:
    site = home.site()
    bundles = [home.granted(site, MODEL + bytes([n])) for n in range(3)]
    installed(bundles[0].path, home)
    words = [sys.executable, "-m", "toolkit.cli.main", "install", "--json", "--site", str(site.path)]
    running = [subprocess.Popen([*words, str(one.path)], stdout=subprocess.PIPE) for one in bundles[1:]]
    seen = set()
    while any(process.poll() is None for process in running):
        with open_current(site.path) as opened:
            seen.add(opened.read("model"))
    codes = [process.wait() for process in running]
    for process in running:
        process.communicate()
    assert codes[1] == 0
    assert codes[0] in (0, 3)  # it came first, or was refused as the older one
    assert seen <= {MODEL + bytes([n]) for n in range(3)}
    assert verify_site(site.path).state.current == bundles[2].manifest.bundle_id
    events = [entry.event for entry in site.audit.entries()]
    assert events.count("install.done") + events.count("install.refused") == 3
    assert not plaintext(tmp_path)


@pytest.mark.parametrize("verb", ["rollback", "serve"])
def test_case_27_a_file_changed_after_install(verb: str, home: Home, sealed: SealedBundle, tmp_path: Path) -> None:
    site = home.site()
    installed(sealed.path, home)
    if verb == "rollback":
        installed(home.granted(site, MODEL + b"2").path, home)
    blob = blob_of(site.versions / sealed.manifest.bundle_id, sealed.manifest, "model")
    overwrite(blob, flipped(blob.read_bytes(), 500))
    before = site.current.read_bytes()
    port = ("--port", "0") if verb == "serve" else ()
    found = refusal(run(verb, "--site", site.path, *port, "--json"), 4)
    assert blob.name[:12] in found.part
    assert refusal(run("verify", site.path, "--json"), 4).part == f"versions/{sealed.manifest.bundle_id}/" + (
        f"blobs/sha256/{blob.name[:12]}… (role model)"
    )
    assert site.current.read_bytes() == before
    last = list(site.audit.entries())[-1]
    assert (last.event, last.details["part"]) == (f"{verb}.refused", found.part)
    assert not plaintext(tmp_path)


def test_case_27_a_file_changed_during_load(home: Home, sealed: SealedBundle) -> None:
    site = home.site()
    installed(sealed.path, home)
    blob = blob_of(site.versions / sealed.manifest.bundle_id, sealed.manifest, "model")
    data = blob.read_bytes()
    os.chmod(blob, 0o600)
    for changed in (flipped(data, 8 * 40_000), data[:-1], data + b"x", b""):
        blob.write_bytes(data)
        with open_current(site.path) as opened:
            opened.read("plan")
            blob.write_bytes(changed)
            with pytest.raises(Exception, match="role model") as error:
                opened.read("model")
            assert error.value.exit_code == 4  # type: ignore[attr-defined]
