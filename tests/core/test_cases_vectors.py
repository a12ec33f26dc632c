"""Bundles kept for ever, each named by the failure it must cause; the vectors of others; and a stranger's reader."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from case_parts import not_installed, refusal, run
from seal_parts import Home, snapshot

from toolkit.seal.keys import ensure_development_keys
from toolkit.seal.open import open_bundle
from toolkit.seal.trust import load_trust
from toolkit.site.layout import Site, init_site

VECTORS = Path(__file__).parents[1] / "vectors"
SETS = {name: VECTORS / name for name in ("sealed", "papers")}
EXPECTED = {name: json.loads((folder / "expected.json").read_text()) for name, folder in SETS.items()}
CASES = [(folder, name) for folder, names in EXPECTED.items() for name in sorted(names)]


def site_of(vectors: Path, home: Path) -> Site:
    """A site with the recipient key and root of a set of vectors."""
    keys = home / "site" / "keys"
    keys.mkdir(parents=True, mode=0o700)
    shutil.copy(vectors / "recipient.key.json", keys)
    (keys / "recipient.key.json").chmod(0o600)
    return init_site(keys.parent, load_trust(vectors / "root.json"))


@pytest.mark.parametrize(("folder", "name"), CASES)
def test_vectors_cause_the_failure_in_their_name(
    folder: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "home"))
    vectors, expected = SETS[folder], EXPECTED[folder][name]
    site, before = site_of(vectors, tmp_path / "home"), snapshot(vectors / name)
    said = run("verify", vectors / name, "--trust", vectors / "root.json", "--json")
    if expected["verify"]:
        refusal(said, expected["verify"])
    else:
        assert said.code == 0, said
    if expected["install"]:
        home = Home(tmp_path / "home", ensure_development_keys(tmp_path / "home" / "keys"))
        not_installed(vectors / name, home, expected["install"], site)
    else:
        assert run("install", vectors / name, "--json").code == 0
    assert snapshot(vectors / name) == before


@pytest.mark.parametrize("folder", sorted(SETS))
def test_a_stranger_reads_a_bundle_by_the_document_alone(folder: str, tmp_path: Path) -> None:
    vectors = SETS[folder]
    site = site_of(vectors, tmp_path)
    script = VECTORS / "reader.py"
    assert not re.search(r"^\s*(from|import) toolkit", script.read_text(), re.M)
    assert len(script.read_text().partition("def canonical")[2].split("if __name__")[0].splitlines()) <= 75
    spec = importlib.util.spec_from_file_location("reader", script)
    reader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reader)
    keys = str(vectors / "root.json"), str(vectors / "recipient.key.json")
    found = reader.read(str(vectors / "good"), *keys)
    with open_bundle(vectors / "good", site.trust, site.recipient_key()) as opened:
        assert found == {role: opened.read(role) for role in opened.roles}
    for name in EXPECTED["sealed"] if folder == "sealed" else ():
        if name.startswith(("01", "02", "03", "04", "05", "06", "07", "08", "10", "11", "12", "13", "14", "15")):
            with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it raises, it reads nothing
                reader.read(str(vectors / name), *keys)


@pytest.mark.skipif(
    "TOOLKIT_TEST_WYCHEPROOF" not in os.environ,
    reason="TOOLKIT_TEST_WYCHEPROOF does not name Wycheproof's c2sp_chunked_encryption_aes_256_gcm_test.json",
)
def test_wycheproofs_vectors_open_as_they_must() -> None:
    words = [sys.executable, str(VECTORS / "wycheproof.py"), os.environ["TOOLKIT_TEST_WYCHEPROOF"]]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "35/35 as expected"), done.stdout


def test_wycheproofs_own_form_is_read_and_a_wrong_expectation_is_told(tmp_path: Path) -> None:
    # Two cases of c2sp_chunked_encryption_aes_256_gcm_test.json, by github.com/C2SP/wycheproof (Apache-2.0), and one
    # of them again with an expectation that is wrong.
    key = "59454c4c4f57205355424d4152494e452059454c4c4f57205355424d4152494e"
    empty = {
        "tcId": 1, "comment": "empty message", "key": key, "ctx": "", "result": "valid", "msgLength": 0,
        "ct": "78da004800b7ff43a2e39431cbae0389d3fc86adf46f7c3a24de88d9311617e53f3164cc1d5dc738a66b97f0bf786565c31799c2"
        "f463d50a7e10046011dc6fc3c939e3a5db7affb6191551669554fb010000ffff4bc124df",
        "msgSha512": "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f6"
        "3b931bd47417a81a538327af927da3e",
    }  # fmt: skip
    short = {
        "tcId": 2, "comment": "short message, single chunk", "key": key, "ctx": "", "result": "valid", "msgLength": 7,
        "ct": "78da004f00b0ffa1a1b56f6db58cd1ede0c5c9db62aef20d3f96a6c594bb9252bb38122de91236502b42a1d7fcab820ffa292940"
        "d2f86add212cfa42c38df19d3cc9139ee61a5990d3db57433514229beea49a8a72bd010000ffffdb4f2a44",
        "msgSha512": "e85f32a85f1d4f7c9b2d36d20eca8435d81253e7075e9dea069eb1b6da48daf92ef1797367b520d8a46c4f72cecb85b1d"
        "aff8887fcb41721d39943d1952fc180",
    }  # fmt: skip

    def run_on(*tests: dict[str, object]) -> tuple[int, str]:
        groups = [{"aead": "AEAD_AES_256_GCM", "sha": "SHA-512", "tests": tests}]
        (tmp_path / "file.json").write_text(json.dumps({"testGroups": groups}))
        words = [sys.executable, str(VECTORS / "wycheproof.py"), str(tmp_path / "file.json")]
        done = subprocess.run(words, capture_output=True, text=True)
        return done.returncode, done.stdout.strip()

    assert run_on(empty, short) == (0, "2/2 as expected")
    code, said = run_on(empty, short | {"result": "invalid"})
    assert (code, "1/2 as expected" in said, "must not" in said) == (1, True, True)
    code, said = run_on(empty | {"msgLength": 1}, short | {"key": key[:-2] + "4f"})
    assert (code, "0/2 as expected" in said) == (1, True)
