"""The bundle design lists 41 cases; each stands as a test that bears its number."""

from __future__ import annotations

import re
from pathlib import Path

CASES = 41


def test_each_numbered_case_has_its_test(repository: Path) -> None:
    found: dict[int, list[str]] = {}
    for folder in ("tests", "plugins"):
        for path in (repository / folder).rglob("test_*.py"):
            for name, number in re.findall(
                r"^def (test_case_(\d+)_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE
            ):
                assert len(number) == 2, f"{name} in {path.name}: numbers have two digits"
                found.setdefault(int(number), []).append(name)
    assert sorted(set(range(1, CASES + 1)) - set(found)) == [], "cases without a test"
    assert max(found) == CASES, "case 0 is the way without a fault, and there is none behind the last"
