"""Case 41 of the bundle design: whatever is done to a document, only our own errors leave, and soon.

2,000 mutations in the default run; TOOLKIT_TEST_MUTATIONS asks for more.
"""

from __future__ import annotations

import base64
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from seal_parts import Home, body_of, canonical, forge, make_home

from toolkit.errors import ToolkitError
from toolkit.seal.grantfile import read_grant
from toolkit.seal.keyfile import SigningKey, load_signing_key
from toolkit.seal.recipient import load_recipient
from toolkit.seal.trust import parse_trust
from toolkit.seal.verify import read_head

MUTATIONS = int(os.environ.get("TOOLKIT_TEST_MUTATIONS", "2000"))
STRANGE: list[Any] = [
    None, True, False, 0, -1, 2**53 - 1, 2**60, "", "x" * 5000, "\0", "../x", [], [[]], [None], {}, {"a": {}}, "é",
    "NaN", [{}], ["x"], 1.5,
]  # fmt: skip


def mutated_bytes(choose: random.Random, data: bytes) -> bytes:
    """Cut, repeat, overwrite or insert a piece."""
    start = choose.randrange(len(data))
    end = min(len(data), start + choose.choice((1, 1, 2, 16, 500)))
    noise = choose.randbytes(end - start)
    piece = choose.choice((b"", noise, data[start:end] * 2, b"[" * 3000, b'"', b"\xff", b"9" * 40))
    return data[:start] + piece + data[end:]


def mutated_value(choose: random.Random, value: Any) -> Any:
    """Replace, drop or double something inside a JSON value."""
    if isinstance(value, dict) and value and choose.random() < 0.9:
        name = choose.choice(sorted(value))
        if choose.random() < 0.15:
            return {key: inner for key, inner in value.items() if key != name}
        return value | {name: mutated_value(choose, value[name])}
    if isinstance(value, list) and value and choose.random() < 0.9:
        place = choose.randrange(len(value))
        if choose.random() < 0.15:
            return [*value, *value]
        return [*value[:place], mutated_value(choose, value[place]), *value[place + 1 :]]
    return choose.choice(STRANGE)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return make_home(tmp_path_factory.mktemp("mutations"))


def readers(home: Home) -> list[tuple[str, bytes, SigningKey | None, Callable[[bytes], object]]]:
    """(kind, valid document, who could sign another, what reads it)."""
    site = home.site()
    sealed = home.granted(site)
    grant = next((sealed.path / "grants").iterdir()).read_bytes()
    key_file = home.path / "keys" / "issuer.key.json"
    copy = home.path / "copy"

    def through(read: Callable[[Path], object]) -> Callable[[bytes], object]:
        def run(data: bytes) -> object:
            copy.write_bytes(data)
            copy.chmod(0o600)
            return read(copy)

        return run

    def manifest(data: bytes) -> object:
        (sealed.path / "bundle.dsse").write_bytes(data)
        return read_head(sealed.path, home.keys.trust)

    root = load_signing_key(home.path / "keys" / "root.key.json", "root", None)
    return [
        ("bundle", (sealed.path / "bundle.dsse").read_bytes(), home.keys.publisher, manifest),
        ("grant", grant, home.keys.issuer, lambda data: read_grant(data, home.keys.trust, part="it")),
        ("root", home.keys.trust.data, root, parse_trust),
        ("recipient", site.recipient_json.read_bytes(), None, through(load_recipient)),
        ("key", key_file.read_bytes(), None, through(lambda path: load_signing_key(path, "issuer", None))),
    ]


def test_case_41_mutations_cause_typed_errors_only(home: Home) -> None:
    choose = random.Random(20260101)
    documents = readers(home)
    refused = 0
    for _ in range(MUTATIONS):
        kind, data, key, read = choose.choice(documents)
        if choose.random() < 0.5:
            changed = mutated_bytes(choose, data)
        elif key is None:
            changed = canonical(mutated_value(choose, json.loads(data)))
        else:
            body = json.loads(base64.b64decode(json.loads(data)["payload"]))
            changed = forge(canonical(mutated_value(choose, body)), kind, key)
        try:
            read(changed)
        except ToolkitError:
            refused += 1
    # Some changes are harmless: a name of other letters, a field that nobody reads, signed by whom it should be.
    assert refused > 0.9 * MUTATIONS


def test_the_documents_are_accepted_as_they_are(home: Home) -> None:
    for kind, data, key, read in readers(home):
        read(data)
        if key is not None:
            assert forge(canonical(json.loads(base64.b64decode(json.loads(data)["payload"]))), kind, key) == data


def test_what_is_altered_here_is_what_is_sealed(home: Home) -> None:
    sealed = home.seal()
    assert body_of(sealed.path / "bundle.dsse") == json.loads(json.dumps(sealed.manifest.as_record()))
