"""Carriage of bundles: through Debian's registry on this machine, past hostile ones, and as one file."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from carriage_parts import HTPASSWD, Hostile, Seen, hostile, needs_registry, registry
from case_parts import MODEL, case_bundle, case_home, refusal, run
from seal_parts import Home, blob_of, files_of, flipped, snapshot

from toolkit.carriage.archive import export_bundle, import_bundle
from toolkit.carriage.image import Image, image_of
from toolkit.carriage.reference import credentials_for, is_loopback, parse_reference
from toolkit.carriage.registry import PAUSES, Registry
from toolkit.carriage.unpack import unpack
from toolkit.errors import EnvironmentUnfit, IntegrityError, UsageError
from toolkit.seal.bundle import SealedBundle

TITLE = "org.opencontainers.image.title"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr("toolkit.carriage.registry.PAUSES", (0,) * len(PAUSES))
    for name in ("USER", "PASSWORD", "CREDENTIALS_FILE"):
        monkeypatch.delenv(f"TOOLKIT_REGISTRY_{name}", raising=False)
    return case_home(tmp_path, monkeypatch)


@pytest.fixture
def sealed(home: Home) -> SealedBundle:
    return case_bundle(home)


# --- one file ---


def test_a_bundle_as_a_file_is_the_same_bytes_each_time(home: Home, sealed: SealedBundle, tmp_path: Path) -> None:
    shutil.copytree(sealed.path, tmp_path / "copy")
    for path in files_of(tmp_path / "copy"):
        os.utime(path, (1, 1))
    export_bundle(sealed.path, home.keys.trust, tmp_path / "a.tar")
    export_bundle(tmp_path / "copy", home.keys.trust, tmp_path / "b.tar")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_gnu_tar_reads_what_is_exported_and_what_it_packs_anew_is_imported(
    home: Home, sealed: SealedBundle, tmp_path: Path
) -> None:
    export_bundle(sealed.path, home.keys.trust, tmp_path / "a.tar")
    layout = tmp_path / "layout"
    layout.mkdir()
    subprocess.run(["tar", "-xf", str(tmp_path / "a.tar"), "-C", str(layout)], check=True)
    for blob in (layout / "blobs" / "sha256").iterdir():
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
    subprocess.run(["tar", "-cf", str(tmp_path / "b.tar"), "-C", str(layout), "."], check=True)
    import_bundle(tmp_path / "b.tar", home.keys.trust, tmp_path / "arrived")
    assert snapshot(tmp_path / "arrived") == snapshot(sealed.path)


def test_grants_travel_with_the_bundle_or_apart(home: Home, sealed: SealedBundle, tmp_path: Path) -> None:
    said = run("bundle", "export", sealed.path, tmp_path / "a.tar", "--no-grants", "--json")
    assert said.record["files"] == len(files_of(sealed.path)) - 1
    assert run("bundle", "import", tmp_path / "a.tar", tmp_path / "arrived").code == 0
    assert "no grant for this site" in refusal(run("install", tmp_path / "arrived", "--json"), 4).message
    shutil.copytree(sealed.path / "grants", tmp_path / "arrived" / "grants")
    assert run("install", tmp_path / "arrived").code == 0


def test_nothing_is_overwritten(home: Home, sealed: SealedBundle, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "a.tar").symlink_to("nowhere")
    for words in (("export", sealed.path, tmp_path / "a.tar"), ("export", sealed.path, tmp_path / "there")):
        assert run("bundle", *words, "--json").code == 2
    (tmp_path / "a.tar").unlink()
    assert run("bundle", "export", sealed.path, tmp_path / "a.tar").code == 0
    assert run("bundle", "import", tmp_path / "a.tar", tmp_path / "there", "--json").code == 2
    assert not list((tmp_path / "there").iterdir())


def test_what_is_not_as_it_was_sealed_does_not_travel(home: Home, sealed: SealedBundle, tmp_path: Path) -> None:
    blob = blob_of(sealed.path, sealed.manifest, "model")
    blob.write_bytes(flipped(blob.read_bytes(), 5000))
    assert run("bundle", "export", sealed.path, tmp_path / "a.tar", "--json").code == 4
    assert not list(tmp_path.glob("*.tar*"))


def test_a_bundle_of_another_publisher_does_not_arrive(home: Home, sealed: SealedBundle, tmp_path: Path) -> None:
    other = Home(tmp_path / "other", make_other(tmp_path / "other"))
    stranger = other.seal(MODEL)
    export_bundle(stranger.path, other.keys.trust, tmp_path / "a.tar")
    for words in ((), ("--site", home.site().path)):
        said = run("bundle", "import", tmp_path / "a.tar", tmp_path / "arrived", *words, "--json")
        assert refusal(said, 4).part == "bundle.dsse"
    assert not (tmp_path / "arrived").exists()
    trusted = ("--trust", other.path / "keys" / "root.json")
    assert run("bundle", "import", tmp_path / "a.tar", tmp_path / "arrived", *trusted).code == 0


def make_other(path: Path) -> Any:
    from toolkit.seal.keys import ensure_development_keys

    return ensure_development_keys(path / "keys")


def test_without_anybody_to_trust_nothing_is_taken(
    home: Home, sealed: SealedBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_bundle(sealed.path, home.keys.trust, tmp_path / "a.tar")
    monkeypatch.setenv("TOOLKIT_HOME", str(tmp_path / "bare"))
    said = run("bundle", "import", tmp_path / "a.tar", tmp_path / "arrived", "--json")
    assert (said.code, said.record["error"]["message"]) == (2, "nothing says whom to trust")
    site = home.site().path
    assert run("bundle", "import", tmp_path / "a.tar", tmp_path / "arrived", "--site", site).code == 0


def test_data_without_a_licence_leave_this_machine_with_a_reason_only(home: Home, tmp_path: Path) -> None:
    from dataclasses import replace

    from seal_parts import HEADER

    sealed = home.seal(header=replace(HEADER, data=replace(HEADER.data, licence="")))
    for words in (("export", sealed.path, tmp_path / "a.tar"), ("push", sealed.path, "127.0.0.1:1/x:1")):
        assert refusal(run("bundle", *words, "--json"), 3)
    assert run("bundle", "export", sealed.path, tmp_path / "a.tar", "--override", "ours").code == 0
    assert b"ours" in (home.escrow / f"{sealed.manifest.bundle_id}.overrides.jsonl").read_bytes()


KILLED = """
import os, sys
from pathlib import Path
import toolkit.carriage.unpack as unpack
from toolkit.carriage.archive import import_bundle
from toolkit.seal.trust import load_trust
unpack.read_bundle = lambda *_: os.kill(os.getpid(), 9)  # when all files are there, before it has its place
import_bundle(Path(sys.argv[1]), load_trust(Path(sys.argv[2])), Path(sys.argv[3]))
"""


def test_what_a_killed_import_left_goes_with_the_next(home: Home, sealed: SealedBundle, tmp_path: Path) -> None:
    export_bundle(sealed.path, home.keys.trust, tmp_path / "a.tar")
    words = [tmp_path / "a.tar", home.path / "keys" / "root.json", tmp_path / "arrived"]
    done = subprocess.run([sys.executable, "-c", KILLED, *map(str, words)], timeout=60)
    assert done.returncode == -9
    assert len(list(tmp_path.glob(".arrived.*.arriving"))) == 1
    (tmp_path / ".arrived.other.arriving").mkdir()  # not of this form: somebody else's
    import_bundle(tmp_path / "a.tar", home.keys.trust, tmp_path / "arrived")
    assert [path.name for path in tmp_path.glob(".arrived.*")] == [".arrived.other.arriving"]


# --- a registry ---


@needs_registry
def test_a_bundle_goes_through_a_registry_byte_for_byte(home: Home, sealed: SealedBundle, tmp_path: Path) -> None:
    with registry(tmp_path / "registry") as host:
        ref = f"{host}/models/industry:1"
        first = run("bundle", "push", sealed.path, ref, "--json").record
        assert first["bytes_sent"] == first["bytes"] + 2  # and the empty configuration
        again = run("bundle", "push", sealed.path, ref, "--json").record
        assert (again["bytes_sent"], again["digest"]) == (0, first["digest"])
        assert run("bundle", "pull", ref, tmp_path / "arrived", "--json").record["digest"] == first["digest"]
        assert snapshot(tmp_path / "arrived") == snapshot(sealed.path)
        by_digest = f"{host}/models/industry@{first['digest']}"
        assert run("bundle", "pull", by_digest, tmp_path / "again", "--site", home.site().path).code == 0
        assert run("install", tmp_path / "again").code == 0
        # A grant that came later is all that is sent, and the other tag stays as it was.
        home.grant(sealed.path, home.site("second"))
        more = run("bundle", "push", sealed.path, f"{host}/models/industry:2", "--json").record
        assert 0 < more["bytes_sent"] < 20_000
        assert run("bundle", "pull", ref, tmp_path / "first").code == 0
        assert snapshot(tmp_path / "first") == snapshot(tmp_path / "arrived")
        missing = run("bundle", "pull", f"{host}/models/industry:3", tmp_path / "third", "--json")
        assert (missing.code, missing.record["error"]["code"]) == (2, "usage")


@needs_registry
def test_a_push_that_was_cut_short_goes_on_where_it_was(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed = home.granted(home.site(), os.urandom(3 << 20), other=os.urandom(2 << 20))
    image, _ = image_of(sealed.path, home.keys.trust)
    with registry(tmp_path / "registry") as host:
        reference = parse_reference(f"{host}/models/industry:1")
        upload, sent = Registry._upload, []

        def cut(self: Registry, bundle: Path, part: Any) -> None:
            if len(sent) == 3:
                raise EnvironmentUnfit("the line was cut")
            sent.append(part.size)
            upload(self, bundle, part)

        monkeypatch.setattr(Registry, "_upload", cut)
        with Registry(reference) as one, pytest.raises(EnvironmentUnfit, match="cut"):
            one.push(sealed.path, image)
        with Registry(reference) as one, pytest.raises(UsageError, match="has no"):
            one.image()  # nobody sees half of it
        monkeypatch.undo()
        with Registry(reference) as one:
            assert one.push(sealed.path, image) == sum(part.size for part in image.blobs().values()) - sum(sent)
            assert one.push(sealed.path, image) == 0


@needs_registry
@pytest.mark.parametrize("how", ["environment", "file"])
def test_a_registry_that_wants_a_password(
    how: str, home: Home, sealed: SealedBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    with registry(tmp_path / "registry", htpasswd={"realm": "here", "path": str(tmp_path / "htpasswd")}) as host:
        push = ("bundle", "push", sealed.path, f"{host}/models/industry:1", "--json")
        assert "wants a user and a password" in run(*push).record["error"]["message"]

        def log_in(password: str) -> None:
            if how == "environment":
                monkeypatch.setenv("TOOLKIT_REGISTRY_USER", "alice")
                monkeypatch.setenv("TOOLKIT_REGISTRY_PASSWORD", password)
            else:
                entry = {"auth": base64.b64encode(f"alice:{password}".encode()).decode()}
                (tmp_path / "auth.json").write_text(json.dumps({"auths": {host: entry, "elsewhere": {}}}))
                monkeypatch.setenv("TOOLKIT_REGISTRY_CREDENTIALS_FILE", str(tmp_path / "auth.json"))

        log_in("wrong-horse")
        said = run(*push)
        assert said.code == 2
        assert "wrong-horse" not in said.out + said.err
        log_in("wonder")
        assert run(*push).code == 0
        assert run("bundle", "pull", f"{host}/models/industry:1", tmp_path / "arrived").code == 0
        assert snapshot(tmp_path / "arrived") == snapshot(sealed.path)


# --- hostile registries ---


class Serving:
    """What an honest registry would answer for one image; a test changes it."""

    def __init__(self, bundle: Path, image: Image) -> None:
        self.image = image.data
        self.blobs = {part.digest: (bundle / part.path).read_bytes() for part in image.parts}
        self.titles = {part.digest: part.path for part in image.parts}

    def __call__(self, seen: Seen) -> tuple[int, dict[str, str], bytes]:
        if "/manifests/" in seen.path:
            return 200, {"Content-Type": "application/vnd.oci.image.manifest.v1+json"}, self.image
        digest = seen.path.rpartition("/")[2]
        return (200, {}, self.blobs[digest]) if digest in self.blobs else (404, {}, b"")


@pytest.fixture
def serving(home: Home, sealed: SealedBundle) -> Serving:
    return Serving(sealed.path, image_of(sealed.path, home.keys.trust)[0])


def pulled(server: Hostile, tmp_path: Path, *words: object) -> Any:
    """`toolkit bundle pull` from a server; where it is refused, nothing is left of it."""
    before = set(os.listdir(tmp_path))
    said = run("bundle", "pull", f"{server.host}/models/industry:1", tmp_path / "arrived", *words, "--json")
    assert set(os.listdir(tmp_path)) - before == (set() if said.code else {"arrived"})
    return said


def test_an_honest_server_is_believed(serving: Serving, sealed: SealedBundle, tmp_path: Path) -> None:
    with hostile(serving) as server:
        assert pulled(server, tmp_path).code == 0
    assert snapshot(tmp_path / "arrived") == snapshot(sealed.path)


@pytest.mark.parametrize("title", ["bundle.dsse", "blobs/", "LICENSES/", "grants/"])
def test_a_blob_that_is_not_what_its_digest_says(title: str, serving: Serving, tmp_path: Path) -> None:
    digest = next(digest for digest, path in serving.titles.items() if path.startswith(title))
    whole = serving.blobs[digest]
    with hostile(serving) as server:
        for body in (flipped(whole, 77), whole + b"x", whole[:-1], b"", whole * 3):
            serving.blobs[digest] = body
            assert refusal(pulled(server, tmp_path), 4).part
        del serving.blobs[digest]
        assert "missing in the registry" in refusal(pulled(server, tmp_path), 4).message


def test_a_server_that_never_ends_a_blob_is_left_at_the_first_byte_too_many(
    serving: Serving, sealed: SealedBundle, tmp_path: Path
) -> None:
    blob = blob_of(sealed.path, sealed.manifest, "model")

    def endless(seen: Seen) -> tuple[int, dict[str, str], bytes]:
        if blob.name in seen.path:
            return 200, {"Content-Length": str(10**12)}, blob.read_bytes() + bytes(1 << 20)
        return serving(seen)

    with hostile(endless) as server:
        assert "more bytes" in refusal(pulled(server, tmp_path), 4).message

    def short(seen: Seen) -> tuple[int, dict[str, str], bytes]:
        if blob.name in seen.path:
            return 200, {"Content-Length": str(10**6)}, blob.read_bytes()[:1000]
        return serving(seen)

    with hostile(short) as server:
        assert pulled(server, tmp_path).code == 5  # the line broke, whoever's fault it was
        assert sum(blob.name in seen.path for seen in server.asked) == 1 + len(PAUSES)


@pytest.mark.parametrize(("ranges", "pieces"), [(True, 3), (False, 3), (True, 3 * len(PAUSES))])
def test_a_file_that_breaks_off_goes_on_where_it_was(
    ranges: bool, pieces: int, serving: Serving, sealed: SealedBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that breaks off more often than it is waited for, as long as some of it arrives each time."""
    monkeypatch.setattr("toolkit.carriage.registry.PROGRESS", 1)
    blob = blob_of(sealed.path, sealed.manifest, "model")

    def breaking(seen: Seen) -> tuple[int, dict[str, str], bytes]:
        """Another piece of it each time."""
        if blob.name not in seen.path:
            return serving(seen)
        whole = blob.read_bytes()
        start = int(seen.headers.get("Range", "bytes=0-")[6:-1])
        end = start + max(1, len(whole) // pieces)
        if not ranges:
            return 200, {"Content-Length": str(len(whole))}, whole[:end]
        facts = {"Content-Length": str(len(whole) - start), "Content-Range": f"bytes {start}-{len(whole) - 1}/*"}
        return (206 if start else 200), facts, whole[start:end]

    with hostile(breaking) as server:
        assert pulled(server, tmp_path).code == 0
        assert sum(blob.name in seen.path for seen in server.asked) >= pieces
    assert snapshot(tmp_path / "arrived") == snapshot(sealed.path)


def test_a_registry_that_goes_on_elsewhere_or_with_other_bytes_is_not_believed(
    serving: Serving, sealed: SealedBundle, tmp_path: Path
) -> None:
    blob = blob_of(sealed.path, sealed.manifest, "model")

    def lying(place: int, seen: Seen) -> tuple[int, dict[str, str], bytes]:
        if blob.name not in seen.path:
            return serving(seen)
        whole = blob.read_bytes()
        if "Range" not in seen.headers:
            return 200, {"Content-Length": str(len(whole))}, whole[:1000]
        return 206, {"Content-Range": f"bytes {place}-{len(whole) - 1}/*"}, whole[1001:] + b"x"

    for place, code in ((1000, 4), (0, 5)):
        with hostile(partial(lying, place)) as server:
            assert pulled(server, tmp_path).code == code


def changed(serving: Serving, change: Any) -> bytes:
    image = json.loads(serving.image)
    change(image)
    return json.dumps(image).encode()


LIES = {
    "a size": lambda image: image["layers"][1].update(size=image["layers"][1]["size"] + 1),
    "a huge size": lambda image: image["layers"][1].update(size=2**50),
    "a negative size": lambda image: image["layers"][1].update(size=-1),
    "a digest": lambda image: image["layers"][1].update(digest="sha256:" + "0" * 64),
    "another hash": lambda image: image["layers"][1].update(digest="sha512:" + "0" * 128),
    "a path": lambda image: image["layers"][1]["annotations"].update({TITLE: "../../x"}),
    "an absolute path": lambda image: image["layers"][1]["annotations"].update({TITLE: "/x"}),
    "no path": lambda image: image["layers"][1].pop("annotations"),
    "a file twice": lambda image: image["layers"].append(image["layers"][1]),
    "no envelope": lambda image: image["layers"].pop(0),
    "a file less": lambda image: image["layers"].pop(1),
    "no layers": lambda image: image.update(layers=[]),
    "very many layers": lambda image: image.update(layers=image["layers"] * 2000),
    "another artifact": lambda image: image.update(artifactType="application/x"),
    "an index": lambda image: image.update(mediaType="application/vnd.oci.image.index.v1+json"),
    "an old schema": lambda image: image.update(schemaVersion=1),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_an_image_that_lies(lie: str, serving: Serving, tmp_path: Path) -> None:
    serving.image = changed(serving, LIES[lie])
    with hostile(serving) as server:
        assert refusal(pulled(server, tmp_path), 4).part
        asked = [seen.path for seen in server.asked if "/blobs/" in seen.path]
    assert len(asked) <= 1, "nothing is fetched that the signed manifest does not list so"


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"a":1,"a":1}', b'{"schemaVersion":2.0}', b"[" * 200_000, b" " * (5 << 20), b"\xff"]
)
def test_a_manifest_that_is_none(body: bytes, serving: Serving, tmp_path: Path) -> None:
    serving.image = body
    with hostile(serving) as server:
        refusal(pulled(server, tmp_path), 4)


def test_an_image_that_is_not_the_one_asked_for(serving: Serving, tmp_path: Path) -> None:
    with hostile(serving) as server:
        ref = f"{server.host}/models/industry@sha256:{'0' * 64}"
        said = run("bundle", "pull", ref, tmp_path / "arrived", "--json")
        assert "another digest" in refusal(said, 4).message


@pytest.mark.parametrize("status", [204, 206, 400, 403, 404, 418, 429, 500, 503, 301])
def test_a_server_that_answers_anything_else(status: int, tmp_path: Path, home: Home) -> None:
    with hostile(lambda seen: (status, {}, b"<html>")) as server:
        assert pulled(server, tmp_path).code == (2 if status in (403, 404) else 5)


def test_a_packed_answer_is_not_unpacked(serving: Serving, tmp_path: Path) -> None:
    with hostile(lambda seen: (200, {"Content-Encoding": "gzip"}, b"\x1f\x8b" + bytes(100))) as server:
        assert "packed" in refusal(pulled(server, tmp_path), 4).message


@pytest.fixture
def alice(home: Home, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("TOOLKIT_REGISTRY_USER", "alice")
    monkeypatch.setenv("TOOLKIT_REGISTRY_PASSWORD", "wonder")
    return "Basic " + base64.b64encode(b"alice:wonder").decode()


def test_a_redirect_elsewhere_is_followed_without_credentials(
    alice: str, serving: Serving, sealed: SealedBundle, tmp_path: Path
) -> None:
    with hostile(serving) as store:

        def here(seen: Seen) -> tuple[int, dict[str, str], bytes]:
            if seen.headers.get("Authorization") != alice:
                return 401, {"WWW-Authenticate": 'Basic realm="here"'}, b""
            if "/blobs/" in seen.path:
                return 307, {"Location": f"http://{store.host}{seen.path}"}, b""
            return serving(seen)

        with hostile(here) as server:
            assert pulled(server, tmp_path).code == 0
            assert any(seen.headers.get("Authorization") == alice for seen in server.asked)
        assert len(store.asked) == len(files_of(sealed.path))
        assert not any("Authorization" in seen.headers for seen in store.asked)


@pytest.mark.parametrize(
    "place", ["http://example.invalid/x", "ftp://x/", "file:///etc/passwd", "", "http://[", "\x01"]
)
def test_a_redirect_that_is_not_followed(place: str, serving: Serving, tmp_path: Path) -> None:
    with hostile(lambda seen: (307, {"Location": place}, b"")) as server:
        assert pulled(server, tmp_path).code in (3, 5)


def test_redirects_without_end(serving: Serving, tmp_path: Path, home: Home) -> None:
    with hostile(lambda seen: (302, {"Location": seen.path}, b"")) as server:
        assert pulled(server, tmp_path).code == 5
        assert len(server.asked) <= 5


def test_a_password_is_told_to_nobody_else(alice: str, serving: Serving, tmp_path: Path) -> None:
    def tokens(seen: Seen) -> tuple[int, dict[str, str], bytes]:
        return 200, {}, b'{"token": "t0ken"}'

    with hostile(tokens) as maker:

        def here(seen: Seen) -> tuple[int, dict[str, str], bytes]:
            if seen.path.startswith("/token"):
                return tokens(seen)
            if seen.headers.get("Authorization") != "Bearer t0ken":
                asks = f'Bearer realm="{realm}",service="s",scope="repository:models/industry:pull"'
                return 401, {"WWW-Authenticate": asks}, b""
            return serving(seen)

        with hostile(here) as server:
            realm = f"http://{maker.host}/token"
            said = pulled(server, tmp_path)
            assert said.code == 3  # over plain http, to another
            realm = f"https://{maker.host}/token"
            said = pulled(server, tmp_path)
            assert "wants the password told to 127.0.0.1" in said.record["error"]["message"]
            assert not maker.asked
            assert "wonder" not in said.out + said.err
            realm = f"http://{server.host}/token"
            assert pulled(server, tmp_path).code == 0
            asked = [seen for seen in server.asked if seen.path.startswith("/token")]
            assert [seen.headers["Authorization"] for seen in asked] == [alice]
            assert "scope=repository" in asked[0].path


def test_a_login_that_is_asked_for_without_end(alice: str, tmp_path: Path, home: Home) -> None:
    with hostile(lambda seen: (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")) as server:
        assert pulled(server, tmp_path).code == 2
        assert len(server.asked) == 2


@pytest.mark.parametrize("body", [b"", b"[]", b'{"token":""}', b'{"token":"a\\r\\nb"}', b'{"token":7}', b"x" * 10**6])
def test_a_token_that_is_none(body: bytes, alice: str, tmp_path: Path, home: Home) -> None:
    def here(seen: Seen) -> tuple[int, dict[str, str], bytes]:
        if seen.path.startswith("/token"):
            return 200, {}, body
        return 401, {"WWW-Authenticate": f'Bearer realm="http://{server.host}/token"'}, b""

    with hostile(here) as server:
        refusal(pulled(server, tmp_path), 4)


def test_an_upload_is_not_sent_elsewhere(home: Home, sealed: SealedBundle) -> None:
    def here(seen: Seen) -> tuple[int, dict[str, str], bytes]:
        if seen.method == "POST":
            return 202, {"Location": "http://127.0.0.1:9/upload"}, b""
        return 404, {}, b""

    with hostile(here) as server:
        said = run("bundle", "push", sealed.path, f"{server.host}/models/industry:1", "--json")
        assert "sent to 127.0.0.1" in refusal(said, 3).message


def test_plain_http_is_for_this_machine_alone() -> None:
    for host in ("localhost", "localhost:5000", "127.0.0.1:1", "127.9.9.9", "[::1]:5000"):
        assert is_loopback(host), host
    for host in ("localhost.evil.example", "127.0.0.1.example", "10.0.0.1", "[::2]", "registry:5000", "2130706433"):
        assert not is_loopback(host), host
    reference = parse_reference("registry.example.com/models/industry:1")
    with Registry(reference) as one:
        assert one._base.scheme == "https"
    with Registry(reference, insecure=True) as one:
        assert one._base.scheme == "http"


@pytest.mark.parametrize(
    "text",
    ["", "industry:1", "host/", "host/UPPER:1", "host/a//b:1", "host/../x:1", "https://host/x:1", "host/x:", "host/x",
     "host/x:1@sha256:0", "user:pw@host/x:1", "host/x:1\n", "host/" + "a" * 300 + ":1", "host/x:1?y", "ho st/x:1",
     "-host/x:1"],
)  # fmt: skip
def test_what_names_no_image(text: str) -> None:
    with pytest.raises(UsageError):
        parse_reference(text)


def test_credentials_come_from_the_environment_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "auth.json"
    assert credentials_for("host", file=None, environment={}) is None
    with pytest.raises(UsageError, match="only one"):
        credentials_for("host", file=None, environment={"TOOLKIT_REGISTRY_USER": "a"})
    with pytest.raises(UsageError, match="no credentials file"):
        credentials_for("host", file=file, environment={})
    file.write_text(json.dumps({"auths": {"host": {"auth": base64.b64encode(b"a:b:c").decode()}}}))
    found = credentials_for("host", file=file, environment={})
    assert found is not None
    assert (found.user, found.secret) == ("a", "b:c")
    assert "b:c" not in repr(found)
    assert credentials_for("other", file=file, environment={}) is None
    entries = ("{}", '{"auth": "!"}', '{"auth": "YQ=="}', '{"auth": "YQo6Yg=="}', "7", "null7")
    for body in (
        "",
        "[]",
        "{}",
        '{"auths": []}',
        "[" * 100_000,
        *(f'{{"auths": {{"host": {one}}}}}' for one in entries),
    ):
        file.write_text(body)
        with pytest.raises(UsageError):
            credentials_for("host", file=file, environment={})


def test_what_unpack_refuses_is_always_one_of_our_errors(home: Home, sealed: SealedBundle, tmp_path: Path) -> None:
    image, _ = image_of(sealed.path, home.keys.trust)
    with pytest.raises(UsageError):
        unpack(image, lambda part: pytest.fail("nothing is read"), home.keys.trust, sealed.path)
    with pytest.raises(IntegrityError, match="missing"):
        unpack(Image(b"", ()), lambda part: pytest.fail("nothing is read"), home.keys.trust, tmp_path / "arrived")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EnvironmentUnfit):
        unpack(image, lambda part: pytest.fail("nothing is read"), home.keys.trust, tmp_path / "file" / "arrived")
