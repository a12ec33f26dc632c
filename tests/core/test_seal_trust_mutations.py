"""Mutated roots and revocation lists: typed errors, or the very same meaning. Cases 14 and 41 of the bundle design."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from seal_parts import make_home

from toolkit.errors import IntegrityError
from toolkit.seal.keys import init_keys
from toolkit.seal.revocation import Revocation, parse_list
from toolkit.seal.rotation import revoke
from toolkit.seal.suites import DUAL_SUITE
from toolkit.seal.trust import parse_trust

ROUNDS = 1500


def mutated(data: bytes, dice: random.Random) -> bytes:
    """One flip, cut, insertion, repetition, or swap of two pieces."""
    at, to = sorted(dice.randrange(len(data)) for _ in range(2))
    kind = dice.randrange(6)
    if kind == 0:
        return data[:at] + bytes([data[at] ^ 1 << dice.randrange(8)]) + data[at + 1 :]
    if kind == 1:
        return data[:at]
    if kind == 2:
        piece = dice.choice([b"\x00", b"\xef\xbb\xbf", b"[" * 2000, b"NaN", b"1e999", b'"a":1,', b"\xff", b" ", b"{}"])
        return data[:at] + piece + data[at:]
    if kind == 3:
        return data[:to] + data[at:to] + data[to:]
    if kind == 4:
        return data[:at] + data[to:]
    return data[to:] + data[:to]


@pytest.mark.parametrize("suite", ["plain", "dual"])
def test_case_41_a_mutated_root_or_list_is_refused_with_a_typed_error(suite: str, tmp_path: Path) -> None:
    folder, passphrase = tmp_path / "home" / "keys", None
    if suite == "dual":
        passphrase = "a long enough passphrase"
        trust = init_keys(folder, passphrase, suite=DUAL_SUITE, root_keys=2, threshold=2).trust
    else:
        trust = make_home(tmp_path / "home").keys.trust
    known = revoke(folder, [Revocation("a-bundle-1-000000000000", "a test")], passphrase)
    dice = random.Random(8)
    readers: list[tuple[bytes, Callable[[bytes], Any]]] = [
        (trust.data, parse_trust), (known.data, lambda data: parse_list(data, trust.revokers)),
        (known.data, lambda data: parse_list(data, None)),
    ]  # fmt: skip
    for good, read in readers:
        refused = 0
        for _ in range(ROUNDS):
            data = mutated(good, dice)
            if data == good:
                continue
            with pytest.raises(IntegrityError):
                read(data)
            refused += 1
        assert refused > ROUNDS // 2
        read(good)
