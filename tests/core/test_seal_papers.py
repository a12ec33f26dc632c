"""A bundle's papers: that strangers' tools accept them, that nothing secret stands in them, and that none can be taken
away, altered or exchanged."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from case_parts import case_home, content_keys, installed, not_installed, refusal, refused, regrant, relist, run
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from google.protobuf.json_format import ParseDict
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementProto
from seal_parts import (
    HEADER,
    PAPERS,
    Home,
    body_of,
    canonical,
    files_of,
    flipped,
    forge,
    make_home,
    overwrite,
    put,
    resign,
)
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey
from test_seal_mutations import mutated_bytes, mutated_value

from toolkit.artifacts import Metric
from toolkit.errors import IntegrityError, PlanError, ToolkitError
from toolkit.seal.bundle import SealedBundle
from toolkit.seal.keyfile import load_model_key, load_signing_key
from toolkit.seal.keys import load_keys
from toolkit.seal.making import Making, Package
from toolkit.seal.model_signature import MEDIA_TYPE, ORDER, public_pem, sign_model
from toolkit.seal.papers import check_papers
from toolkit.seal.provenance import sign_provenance
from toolkit.seal.revocation import Revocation
from toolkit.seal.rotation import revoke, rotate
from toolkit.seal.sbom import make_sbom
from toolkit.seal.tree import open_tree
from toolkit.seal.verify import read_bundle, read_head
from toolkit.site.layout import open_site
from toolkit.site.trust import accept_list, accept_root

MAKING = Making(
    task="image_classification", form="int8", gate="pass",
    figures={"teacher accuracy": Metric(0.98, 0.95, 0.99, 120), "student accuracy": Metric(0.97, 0.94, 0.99, 120)},
    parameters={"teacher": "efficientnet-lite0", "recipe": "white-box"},
    data_sha256="ab" * 32, teacher_sha256="cd" * 32,
    line=(Package("distil-toolkit", "0.1.0", "Apache-2.0"), Package("distil-toolkit-industry", "0.1.0", "Apache-2.0")),
    runtime=(Package("onnxruntime", "1.32.0", "MIT License"), Package("numpy", "2.4.6", "BSD-3-Clause AND MIT")),
    run="20260101-120000",
)  # fmt: skip
SECRETS = (b"CLASS-hairline-crack", b"PROMPT-you-are-an-inspector", b"THRESHOLD-0.8231")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    return case_home(tmp_path, monkeypatch)


@pytest.fixture
def sealed(home: Home) -> SealedBundle:
    bundle = home.seal(
        header=replace(HEADER, making=MAKING), plan=SECRETS[1], classes=SECRETS[0], thresholds=SECRETS[2]
    )
    home.grant(bundle.path, home.site())
    return bundle


def model_signing(folder: Path, key_id: str, scratch: Path, signature: Path | None = None) -> int:
    """The exit code of the public tool, in a process of its own."""
    pem = scratch / "model.pem"
    pem.write_text(public_pem(key_id))
    words = [
        sys.executable, "-m", "model_signing", "verify", "key", "--public_key", str(pem),
        "--signature", str(signature or folder / "model.sig"), str(folder),
    ]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode


def test_the_bill_of_materials_is_what_its_own_validator_accepts(home: Home, sealed: SealedBundle) -> None:
    text = (sealed.path / "sbom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_7).validate_str(text) is None
    bill = json.loads(text)
    model = bill["metadata"]["component"]
    assert (bill["specVersion"], model["type"], model["bom-ref"]) == (
        "1.7", "machine-learning-model", sealed.manifest.bundle_id,
    )  # fmt: skip
    metrics = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert metrics[0] == {
        "type": "student accuracy", "value": "0.97", "slice": "held-out rows",
        "confidenceInterval": {"lowerBound": "0.94", "upperBound": "0.99"},
    }  # fmt: skip
    parts = {one["bom-ref"]: one for one in bill["components"]}
    assert parts["teacher"]["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    (text_reference,) = parts["teacher"]["externalReferences"]
    assert (text_reference["type"], text_reference["url"]) == ("license", "LICENSES/teacher.txt")
    assert parts["data"]["type"] == "data"
    assert parts["pkg:pypi/onnxruntime@1.32.0"]["licenses"] == [{"license": {"name": "MIT License"}}]
    assert parts["pkg:pypi/numpy@2.4.6"]["licenses"] == [{"expression": "BSD-3-Clause AND MIT"}]
    blobs = {file.cipher_sha256 for file in sealed.manifest.variants[0].files}
    assert blobs <= {one["hashes"][0]["content"] for one in bill["components"] if "hashes" in one}
    # A model card that the schema does not have is seen: the validator is no formality.
    model["modelCard"]["accuracy"] = 1
    assert JsonStrictValidator(SchemaVersion.V1_7).validate_str(json.dumps(bill)) is not None


def test_the_same_facts_make_the_same_papers(home: Home, sealed: SealedBundle) -> None:
    bare = replace(
        sealed.manifest, files=tuple(file for file in sealed.manifest.files if file.path not in PAPERS), model_signer=""
    )
    assert make_sbom(bare, MAKING) == make_sbom(bare, MAKING) == (sealed.path / "sbom.cdx.json").read_bytes()
    with_sbom = replace(bare, files=sealed.manifest.files[:-1])
    made = sign_provenance(with_sbom, MAKING, home.keys.publisher)
    assert made == (sealed.path / "provenance.dsse").read_bytes()
    envelope = (sealed.path / "bundle.dsse").read_bytes()
    assert home.keys.model is not None
    assert sign_model(sealed.manifest, envelope, home.keys.model) == (sealed.path / "model.sig").read_bytes()


def test_in_totos_own_readers_accept_the_provenance(home: Home, sealed: SealedBundle) -> None:
    publisher = home.keys.publisher.key_id
    envelope = Envelope.from_dict(json.loads((sealed.path / "provenance.dsse").read_bytes()))
    key = SSlibKey(publisher, "ed25519", "ed25519", {"public": publisher})
    assert list(envelope.verify([key], 1)) == [publisher]
    assert envelope.payload_type == "application/vnd.in-toto+json"
    statement = json.loads(envelope.payload)
    Statement.copy_from_pb(ParseDict(statement, StatementProto())).validate()
    build = statement["predicate"]["buildDefinition"]
    assert build["externalParameters"]["recipe"] == "white-box"
    found = {one["name"]: one for one in build["resolvedDependencies"]}
    assert found["data"]["digest"] == {"sha256": "ab" * 32}
    assert found["teacher"]["digest"] == {"sha256": "cd" * 32}
    assert found["distil-toolkit-industry"]["uri"] == "pkg:pypi/distil-toolkit-industry@0.1.0"
    subjects = {one["name"] for one in statement["subject"]}
    assert subjects == {listed.path for listed in sealed.manifest.listed()} - {"provenance.dsse"}


def test_the_public_tool_accepts_the_installed_tree_and_refuses_any_other(home: Home, sealed: SealedBundle) -> None:
    tree, key = put(sealed.path, home.site()).path, sealed.manifest.model_signer
    assert (tree / "grants").is_dir()
    assert model_signing(tree, key, home.path) == 0
    for path in (tree / "bundle.dsse", max(files_of(tree / "blobs"), key=str), tree / "LICENSES" / "teacher.txt"):
        before = path.read_bytes()
        overwrite(path, flipped(before, 77))
        assert model_signing(tree, key, home.path) != 0, path
        overwrite(path, before)
    (tree / "extra").write_bytes(b"")
    assert model_signing(tree, key, home.path) != 0
    (tree / "extra").unlink()
    other = home.seal(b"another model")
    assert model_signing(tree, key, home.path, signature=other.path / "model.sig") != 0
    stranger = make_home(home.path.parent / "stranger")
    assert model_signing(tree, stranger.keys.model.key_id, home.path) != 0
    assert model_signing(tree, key, home.path) == 0


def test_what_the_public_tool_signs_is_read_here_but_for_its_freedoms(home: Home, sealed: SealedBundle) -> None:
    """Their bundle and ours say the same: statement, media type, hint. Here alone the bytes of JSON are fixed too."""
    pem, theirs = home.path / "private.pem", home.path / "theirs.sig"
    key = home.keys.model
    pem.write_bytes(key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    words = [
        sys.executable, "-m", "model_signing", "sign", "key", "--private_key", str(pem), "--signature", str(theirs),
        "--ignore-paths", str(sealed.path / "grants"), "--ignore-paths", str(sealed.path / "model.sig"),
        "--no-ignore-git-paths", str(sealed.path),
    ]  # fmt: skip
    subprocess.run(words, check=True, capture_output=True, timeout=120)
    mine, other = (json.loads(path.read_bytes()) for path in (sealed.path / "model.sig", theirs))
    assert mine["mediaType"] == other["mediaType"] == MEDIA_TYPE
    assert mine["verificationMaterial"]["publicKey"] == other["verificationMaterial"]["publicKey"]
    said = [json.loads(base64.b64decode(one["dsseEnvelope"]["payload"])) for one in (mine, other)]
    assert said[0]["subject"] == said[1]["subject"]
    assert said[0]["predicate"]["resources"] == said[1]["predicate"]["resources"]
    overwrite(sealed.path / "model.sig", theirs.read_bytes())
    assert refused(sealed.path, home).part == "model.sig"


def test_case_31_nothing_secret_stands_in_the_papers(sealed: SealedBundle) -> None:
    readable = [path.read_bytes() for path in files_of(sealed.path) if "blobs" not in path.parts]
    readable += [base64.b64decode(json.loads(data)["payload"]) for data in readable if b'"payload"' in data[:20]]
    readable += [
        base64.b64decode(json.loads(data)["dsseEnvelope"]["payload"])
        for data in readable
        if b"dsseEnvelope" in data[:20]
    ]
    for secret in (*SECRETS, b"the weights"):
        for form in (secret, hashlib.sha256(secret).hexdigest().encode(), base64.b64encode(secret)):
            assert not [data for data in readable if form in data]


@pytest.mark.parametrize("name", PAPERS)
def test_a_paper_that_is_taken_away_or_altered_is_missed(name: str, home: Home, sealed: SealedBundle) -> None:
    installed(sealed.path, home)
    path = sealed.path / name
    whole = path.read_bytes()
    path.unlink()
    assert refused(sealed.path, home).part == name
    for data in (whole + b"\n", whole[:-1], b"", b"{}", b"[" * 5000, *(flipped(whole, bit) for bit in (3, 999, 4001))):
        path.write_bytes(data)
        assert refused(sealed.path, home).part == name


def test_a_model_signature_has_one_form(home: Home, sealed: SealedBundle) -> None:
    path = sealed.path / "model.sig"
    whole = json.loads(path.read_bytes())
    signature = base64.b64decode(whole["dsseEnvelope"]["signatures"][0]["sig"])
    r, s = decode_dss_signature(signature)
    assert s <= ORDER // 2
    other = encode_dss_signature(r, ORDER - s)
    for sig in (other, b"", signature + b"\0", b"\x30\x00"):
        whole["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(sig).decode()
        path.write_bytes(canonical(whole))
        assert refused(sealed.path, home).part == "model.sig"
    for sig in (None, 5, [], "&"):
        whole["dsseEnvelope"]["signatures"][0]["sig"] = sig
        path.write_bytes(canonical(whole))
        assert refused(sealed.path, home).part == "model.sig"


def test_papers_of_another_bundle_are_refused_even_where_the_publisher_lists_them(
    home: Home, sealed: SealedBundle
) -> None:
    other = home.seal(b"another model")
    stranger = make_home(home.path.parent / "stranger")
    statement = body_of(sealed.path / "provenance.dsse")
    papers = {
        "sbom.cdx.json": [
            (other.path / "sbom.cdx.json").read_bytes(), b'{"bomFormat":"CycloneDX","specVersion":"1.6"}',
        ],
        "provenance.dsse": [
            (other.path / "provenance.dsse").read_bytes(),
            forge(canonical(statement), "in-toto", stranger.keys.publisher),
            forge(canonical(statement), "in-toto", home.keys.issuer),
            forge(canonical(statement | {"predicateType": "https://slsa.dev/verification_summary/v1"}), "in-toto",
                  home.keys.publisher),
        ],
    }  # fmt: skip
    assert refused_paper(home, sealed, "provenance.dsse", forge(canonical(statement), "bundle", home.keys.publisher))
    for name, forged in papers.items():
        for data in forged:
            assert refused_paper(home, sealed, name, data)


def refused_paper(home: Home, sealed: SealedBundle, name: str, data: bytes) -> bool:
    """Whether a bundle with another paper in its place, listed and signed by the publisher, is refused for that."""
    copy = sealed.path.parent / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(sealed.path, copy)
    (copy / name).write_bytes(data)
    return refused(relist(home, replace(sealed, path=copy)), home).part == name


def test_a_key_that_the_root_does_not_name_signs_no_model(home: Home, sealed: SealedBundle) -> None:
    stranger = make_home(home.path.parent / "stranger").keys.model
    relist(home, sealed, lambda body: body.update(model_signer=stranger.key_id))
    manifest = read_head(sealed.path, home.keys.trust).manifest
    signature = sign_model(manifest, (sealed.path / "bundle.dsse").read_bytes(), stranger)
    (sealed.path / "model.sig").write_bytes(signature)
    found = refused(sealed.path, home)
    assert (found.part, "does not name" in found.message) == ("model.sig", True)


def test_the_key_of_model_sig_rotates_and_is_revoked(home: Home, sealed: SealedBundle) -> None:
    keys = home.path / "keys"
    site = home.site()
    new = rotate(keys, "model", None)
    ring = load_keys(keys, None)
    assert ring.model.key_id != sealed.manifest.model_signer
    assert set(new.trust.models) == {ring.model.key_id, sealed.manifest.model_signer}
    after = replace(home, keys=ring).granted(site)
    assert (
        not_installed(after.path, replace(home, keys=ring), 4, site).part == "model.sig"
    )  # of a root it does not know
    accept_root(site, new.trust.data)
    put(sealed.path, open_site(site.path))
    put(after.path, open_site(site.path))
    revoke(keys, [Revocation(sealed.manifest.model_signer, "lost")], None)
    accept_list(open_site(site.path), (keys / "revoked.json").read_bytes())
    assert refusal(run("rollback", "--site", site.path, "--json"), 4).part == "model.sig"
    assert refusal(run("verify", sealed.path, "--json"), 4).part == "model.sig"
    assert run("verify", after.path, "--json").code == 0


def test_keys_from_before_there_was_a_model_sig_go_on_without_one(home: Home) -> None:
    keys = home.path / "keys"
    body = body_of(keys / "root.json")
    del body["roles"]["model"]
    root = load_signing_key(keys / "root.key.json", "root", None)
    (keys / "root.json").write_bytes(forge(canonical(body), "root", root))
    (keys / "model.key.json").unlink()
    old = replace(home, keys=load_keys(keys, None))
    assert (old.keys.model, old.keys.trust.models) == (None, ())
    sealed = old.granted(old.site())
    assert not (sealed.path / "model.sig").exists()
    papers = read_bundle(sealed.path, old.keys.trust).papers
    assert (papers.model_signer, papers.provenance, papers.components) == ("", True, 4)
    installed(sealed.path, old)
    (sealed.path / "model.sig").write_bytes(b"{}")
    assert refused(sealed.path, old).part == "model.sig"
    rotate(keys, "model", None)
    assert load_keys(keys, None).model is not None


def test_bundles_from_before_there_were_papers_hold(home: Home) -> None:
    sealed = home.seal()
    keys = content_keys(home, sealed.manifest.bundle_id)
    resign(sealed.path, home.keys, lambda body: None)
    regrant(home, sealed.path, keys)
    assert not [name for name in PAPERS if (sealed.path / name).exists()]
    installed(sealed.path, home)


@pytest.mark.parametrize("role", ["sbom.cdx.json", "provenance.dsse", "model.sig", "bundle.dsse"])
def test_papers_are_made_by_sealing_alone(role: str, home: Home) -> None:
    with pytest.raises(PlanError, match="sealing's own"):
        home.seal(**{role: b"mine"})


def test_the_command_line_shows_what_holds(home: Home, sealed: SealedBundle, tmp_path: Path) -> None:
    installed(sealed.path, home)
    bundle_id, key = sealed.manifest.bundle_id, sealed.manifest.model_signer
    papers = run("verify", sealed.path, "--json").record["papers"]
    assert papers == {
        "sbom": {"holds": True, "format": "CycloneDX 1.7", "components": 11},
        "provenance": {"holds": True, "format": "SLSA provenance v1 in DSSE"},
        "model_signature": {
            "holds": True, "format": "OpenSSF model-signing v1", "key": key, "public_key": public_pem(key)
        },
        "licences": ["LICENSES/teacher.txt"],
    }  # fmt: skip
    site = home.path / "site"
    assert run("verify", site, "--json").record["papers"] == {bundle_id: papers}
    told = run("verify", site).out
    for line in ("sbom        holds: CycloneDX 1.7, 11 components", "provenance  holds", "model.sig   holds: OpenSSF"):
        assert line in told
    assert run("status", "--json").record["products"][0]["licences"] == ["LICENSES/teacher.txt"]
    for place in (bundle_id, sealed.path, site, site / "versions" / bundle_id):
        for name in ("sbom.cdx.json", "provenance.dsse", "model.sig", "LICENSES/teacher.txt"):
            assert run("bundle", "print", place, name).out.encode() == (sealed.path / name).read_bytes()
    told = run("bundle", "print", site, "model.sig", "--json").record
    whole = (sealed.path / "model.sig").read_bytes()
    assert (base64.b64decode(told["base64"]), told["sha256"]) == (whole, hashlib.sha256(whole).hexdigest())
    for name, said in {"classes": "encrypted", "nothing": "has no"}.items():
        found = run("bundle", "print", site, name)
        assert (found.code, said in found.err, SECRETS[0].decode() in found.out) == (2, True, False)
    assert run("keys", "list", "--json").record["models"] == [key]
    run("keys", "export", "--to", tmp_path / "usb")
    assert (tmp_path / "usb" / f"model-{key[:16]}.pem").read_text() == public_pem(key)
    overwrite(site / "versions" / bundle_id / "model.sig", b"{}")
    assert refusal(run("verify", site, "--json"), 4).part == f"versions/{bundle_id}/model.sig"
    assert run("bundle", "print", site, "model.sig").code == 4


def test_case_41_mutated_papers_cause_typed_errors_only(home: Home, sealed: SealedBundle) -> None:
    """Whoever signs them: a manifest that lists what was altered would let it come this far."""
    choose, manifest, envelope = random.Random(7), sealed.manifest, (sealed.path / "bundle.dsse").read_bytes()
    kept = {name: (sealed.path / name).read_bytes() for name in PAPERS}
    key_file = home.path / "keys" / "model.key.json"
    whole_key, refused = key_file.read_bytes(), 0
    for _ in range(600):
        name = choose.choice(PAPERS)
        data = mutated_bytes(choose, kept[name])
        if choose.random() < 0.6 and name == "provenance.dsse":
            body = mutated_value(choose, body_of(sealed.path / name))
            data = forge(canonical(body), "in-toto", home.keys.publisher)
        elif choose.random() < 0.6:
            data = canonical(mutated_value(choose, json.loads(kept[name])))
        (sealed.path / name).write_bytes(data)
        key_file.write_bytes(mutated_bytes(choose, whole_key))
        try:
            with open_tree(sealed.path) as root:
                check_papers(root, manifest, envelope, home.keys.trust)
            assert name != "model.sig" or data == kept[name]
        except IntegrityError:
            refused += 1
        with contextlib.suppress(ToolkitError):
            assert load_model_key(key_file, None) == home.keys.model
        (sealed.path / name).write_bytes(kept[name])
    assert refused > 300
    with open_tree(sealed.path) as root:
        check_papers(root, manifest, envelope, home.keys.trust)
