"""Files of a bundle that everybody may read, by the name that the manifest has for them; no key is needed."""

from __future__ import annotations

import hashlib
from pathlib import Path

from toolkit.errors import IntegrityError, UsageError
from toolkit.seal.manifest import MODEL_SIGNATURE, PlainFile
from toolkit.seal.model_signature import MAX_MODEL_SIGNATURE, check_model_signature
from toolkit.seal.tree import open_tree, read_file
from toolkit.seal.trust import TrustRoot
from toolkit.seal.verify import check_listing, read_envelope


def read_readable(bundle: Path, trust: TrustRoot, name: str) -> bytes:
    """A file that is signed and not encrypted, once it is seen to be what was signed.

    Args:
        name: its role in the manifest, or model.sig.

    Raises:
        UsageError: the bundle has no such file, or it is encrypted.
        IntegrityError: it, or the manifest, is not as it was sealed.
    """
    with open_tree(bundle) as root:
        manifest, envelope = read_envelope(root, trust)
        check_listing(root, manifest, trust)
        if name == MODEL_SIGNATURE and manifest.model_signer:
            trust.check_model_signer(manifest.model_signer, part=name)
            data = read_file(root, name, limit=MAX_MODEL_SIGNATURE)
            check_model_signature(data, manifest, envelope)
            return data
        for file in manifest.files:
            if file.role == name:
                return read_plain(root, file)
    secret = any(file.role == name for variant in manifest.variants for file in variant.files)
    names = [file.role for file in manifest.files] + ([MODEL_SIGNATURE] if manifest.model_signer else [])
    raise UsageError(
        f"{name} of {manifest.bundle_id} is encrypted" if secret else f"{manifest.bundle_id} has no {name[:60]}",
        hint=f"Readable are {', '.join(sorted(names))}.",
    )


def read_plain(root: int, file: PlainFile) -> bytes:
    """A plain file of the bundle in the folder handle `root`. Raises IntegrityError where it is not what was signed."""
    data = read_file(root, file.path, limit=file.size, label=file.path)
    if len(data) != file.size or hashlib.sha256(data).hexdigest() != file.sha256:
        raise IntegrityError(
            f"{file.path} is not what was signed", part=file.path, hint="Install the bundle again from its source."
        )
    return data
