"""model.sig: an OpenSSF model-signing v1 signature over the whole bundle less grants/ and itself.

It is there so that people can check an installed bundle with a tool that is not ours (`model_signing verify key`). The
format: a Sigstore bundle v0.3 around a DSSE envelope around an in-toto statement, ECDSA on P-256 with SHA-256
(github.com/ossf/model-signing-spec). All of it but the signature follows from the manifest, so it is not parsed here:
what must stand there is made anew and compared. Needs `cryptography` alone.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from toolkit.errors import IntegrityError
from toolkit.seal.canonical import encode, from_base64, to_base64
from toolkit.seal.envelope import IN_TOTO_TYPE, signed_bytes
from toolkit.seal.keyfile import ModelKey
from toolkit.seal.manifest import ENVELOPE, MODEL_SIGNATURE, Manifest

MAX_MODEL_SIGNATURE = 4 * 1024 * 1024
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PREDICATE = "https://model_signing/signature/v1.0"
IGNORED = ("grants", MODEL_SIGNATURE)
"""Grants come and go; the signature names what it leaves out, and the public tool obeys."""
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of P-256 (SEC 2, 2.4.2)."""


def sign_model(manifest: Manifest, envelope: bytes, key: ModelKey) -> bytes:
    """The bytes of model.sig, for a bundle with this manifest and these bytes of bundle.dsse.

    The nonce is that of RFC 6979 and of s and -s the lower is taken, so that nothing is left to chance.
    """
    body = _statement(manifest, envelope)
    scheme = ECDSA(SHA256(), deterministic_signing=True)
    r, s = decode_dss_signature(key.private.sign(signed_bytes(IN_TOTO_TYPE, body), scheme))
    return _rendered(body, encode_dss_signature(r, min(s, ORDER - s)), key.key_id)


def check_model_signature(data: bytes, manifest: Manifest, envelope: bytes) -> None:
    """Refuse a model.sig that is not, byte for byte, one over this bundle by the key that its manifest names.

    Raises:
        IntegrityError: altered, of another bundle, or by another key.
    """
    body = _statement(manifest, envelope)
    signature = _signature(data)
    if _rendered(body, signature, manifest.model_signer) != data:
        raise _unfit("is not over this bundle, or not by the key that the manifest names")
    try:
        r, s = decode_dss_signature(signature)
        # -s would hold as well, and there must be one signature, not two.
        if s > ORDER // 2 or encode_dss_signature(r, s) != signature:
            raise _unfit("is written in another way than it was signed")
        public_key(manifest.model_signer).verify(signature, signed_bytes(IN_TOTO_TYPE, body), ECDSA(SHA256()))
    except (InvalidSignature, ValueError) as error:
        raise _unfit("does not hold: it was altered after it was signed") from error


def public_key(key_id: str) -> EllipticCurvePublicKey:
    """The key of an id. Raises ValueError where it is no point of the curve."""
    return EllipticCurvePublicKey.from_encoded_point(SECP256R1(), bytes.fromhex(key_id))


def public_pem(key_id: str) -> str:
    """The key as `model_signing verify key --public_key` reads it."""
    return public_key(key_id).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _statement(manifest: Manifest, envelope: bytes) -> bytes:
    """The in-toto statement: every file of the bundle less IGNORED, by path, and one digest over their digests."""
    digests = {listed.path: listed.sha256 for listed in manifest.listed()}
    digests[ENVELOPE] = hashlib.sha256(envelope).hexdigest()
    # The tool orders by the parts of a path, not by its characters.
    ordered = sorted(digests.items(), key=lambda item: item[0].split("/"))
    whole = hashlib.sha256(b"".join(bytes.fromhex(digest) for _, digest in ordered)).hexdigest()
    return encode(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": manifest.bundle_id, "digest": {"sha256": whole}}],
            "predicateType": PREDICATE,
            "predicate": {
                "serialization": {
                    "method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": list(IGNORED),
                },
                "resources": [
                    {"name": path, "algorithm": "sha256", "digest": digest} for path, digest in ordered
                ],
            },
        }
    )  # fmt: skip


def _rendered(body: bytes, signature: bytes, key_id: str) -> bytes:
    """The Sigstore bundle. The hint is the digest of the key's PEM, as the tool compares it."""
    return encode(
        {
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": {
                "publicKey": {"hint": hashlib.sha256(public_pem(key_id).encode()).hexdigest()}, "tlogEntries": [],
            },
            "dsseEnvelope": {
                "payload": to_base64(body), "payloadType": IN_TOTO_TYPE,
                "signatures": [{"sig": to_base64(signature), "keyid": ""}],
            },
        }
    )  # fmt: skip


def _signature(data: bytes) -> bytes:
    """What stands where the signature must be; whether anything around it is as it must be is compared afterwards."""
    try:
        found: Any = json.loads(data)
        text = found["dsseEnvelope"]["signatures"][0]["sig"]
    except (ValueError, RecursionError, LookupError, TypeError) as error:
        raise _unfit("is not the signature that it should be") from error
    if not isinstance(text, str):
        raise _unfit("is not the signature that it should be")
    return from_base64(text, part=MODEL_SIGNATURE)


def _unfit(problem: str) -> IntegrityError:
    return IntegrityError(
        f"{MODEL_SIGNATURE} {problem}", part=MODEL_SIGNATURE, hint="Fetch the bundle again from whoever made it."
    )
