"""A reader of sealed bundles by docs/bundle-format.md, with `cryptography` and the standard library alone.

python tests/vectors/reader.py BUNDLE ROOT.JSON RECIPIENT.KEY.JSON
"""

import base64
import hashlib
import hmac
import json
import sys
from pathlib import Path

from cryptography.cobblestone import Cobblestone256Decryptor
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, Suite
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def canonical(value):  # RFC 8785, for what the format has: texts, integers, lists, objects with ASCII names
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def strict(data):
    value = json.loads(data)
    assert canonical(value) == data
    return value


def prefixed(*parts):
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def opened(path, kind, signers=None):
    envelope, name = strict(path.read_bytes()), f"application/vnd.distil-toolkit.{kind}+json"
    body, (signature,) = base64.b64decode(envelope["payload"], validate=True), envelope["signatures"]
    signer, signed = signature["keyid"], base64.b64decode(signature["sig"], validate=True)
    message = b"DSSEv1 %d %b %d %b" % (len(name), name.encode(), len(body), body)
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(signer)).verify(signed, message)
    payload = strict(body)
    assert signer in (signers if signers is not None else payload["roles"]["root"]["signers"])
    assert envelope["payloadType"] == name
    assert payload["critical"] == []
    return payload, hashlib.sha256(body).hexdigest()


def hashed(path, digest):
    data = path.read_bytes()
    assert hashlib.sha256(data).hexdigest() == digest
    return data


def read(bundle, root, key):
    """{role: bytes} of all files in the folder `bundle` that the recipient's key opens."""
    trust, _ = opened(Path(root), "root")
    manifest, digest = opened(Path(bundle, "bundle.dsse"), "bundle", trust["roles"]["publisher"])
    assert manifest["suite"] == "cob256+xwing+ed25519" in trust["suites"]
    seed = base64.b64decode(json.loads(Path(key).read_bytes())["secret"])
    pair = MLKEM768PrivateKey.from_seed_bytes(seed[:64]), X25519PrivateKey.from_private_bytes(seed[64:])
    me = hashlib.sha256(b"".join(half.public_key().public_bytes_raw() for half in pair)).hexdigest()
    grants = [opened(path, "grant", trust["roles"]["issuer"])[0] for path in Path(bundle, "grants").iterdir()]
    grant = max((one for one in grants if one["recipient"] == me), key=lambda one: one["serial"])
    assert (grant["bundle_id"], grant["manifest_sha256"]) == (manifest["bundle_id"], digest)
    terms = {name: value for name, value in grant.items() if name != "keys"}
    files, blobs = {}, Path(bundle, "blobs/sha256")
    for one in manifest["files"]:  # a licence text, a paper or a blob: no path is taken from the manifest
        role = one["role"]
        path = Path(bundle, role) if role in ("sbom.cdx.json", "provenance.dsse") else blobs / one["sha256"]
        path = Path(bundle, "LICENSES", role.split("/")[1]) if "/" in role else path
        files[role] = hashed(path, one["sha256"])
    for wrapped in grant["keys"]:
        variant, suite = wrapped["variant"], Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
        info = prefixed(b"distil-toolkit grant", canonical(terms), variant.encode(), wrapped["key_id"].encode())
        content = suite.decrypt(base64.b64decode(wrapped["wrapped"]), MLKEM768X25519PrivateKey(*pair), info)
        mac_key = HKDF(SHA256(), 32, None, b"distil-toolkit plaintext hash").derive(content)
        for one in next(each["files"] for each in manifest["variants"] if each["name"] == variant):
            names = "distil-toolkit file", manifest["product"], manifest["bundle_id"], variant, one["path"]
            reader = Cobblestone256Decryptor(content, prefixed(*(name.encode() for name in names)))
            plain = reader.update(hashed(blobs / one["cipher_sha256"], one["cipher_sha256"])) + reader.finalize()
            assert hmac.digest(mac_key, plain, "sha256").hex() == one["mac"]
            files[one["role"]] = plain
    return files


if __name__ == "__main__":
    for role, data in read(*sys.argv[1:]).items():
        print(f"{len(data):>12,}  {role}")
