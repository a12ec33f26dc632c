"""The audit trail. Cases 34 and 35 of the bundle design."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from seal_parts import Home, copy_of, flipped, forge, make_home

from toolkit.errors import EnvironmentUnfit, IntegrityError, UsageError
from toolkit.seal.keyfile import create_signing_key
from toolkit.site.audit import START, AuditHead, AuditLog, parse_head
from toolkit.site.layout import Site, open_site


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


@pytest.fixture
def site(home: Home) -> Site:
    """A site with six entries in its trail."""
    site = home.site()
    for number in range(5):
        site.audit.append("test.event", {"number": number, "text": "größer"})
    return site


def lines(site: Site) -> list[bytes]:
    return site.audit.path.read_bytes().splitlines(keepends=True)


def write(site: Site, found: list[bytes]) -> None:
    site.audit.path.write_bytes(b"".join(found))


def broken(site: Site) -> IntegrityError:
    """Found by reading and by verifying; and nothing is appended to it by an install."""
    with pytest.raises(IntegrityError) as error:
        site.audit.verify()
    return error.value


def test_entries_are_chained_as_the_format_says(site: Site) -> None:
    previous = START
    for sequence, (line, entry) in enumerate(zip(lines(site), site.audit.entries(), strict=True), start=1):
        payload = json.loads(base64.b64decode(json.loads(line)["payload"]))
        assert payload["previous"] == previous
        assert payload["sequence"] == sequence == entry.sequence
        previous = hashlib.sha256(line.rstrip(b"\n")).hexdigest()
        assert entry.digest == previous
    assert site.audit.verify() == AuditHead(6, previous)
    assert [entry.details["number"] for entry in site.audit.entries() if entry.event == "test.event"] == [0, 1, 2, 3, 4]


def test_reading_needs_no_key(site: Site) -> None:
    for path in (site.path / "keys").iterdir():
        path.chmod(0o600)
    assert AuditLog(site.path / "audit", site.key_id, lambda: pytest.fail("asked for the key")).verify().sequence == 6


@pytest.mark.parametrize("place", range(6))
def test_case_34_an_edited_entry(place: int, site: Site) -> None:
    found = lines(site)
    found[place] = flipped(found[place], 8 * 100 + 1)
    write(site, found)
    assert broken(site).part == f"audit/log.jsonl (entry {place + 1})"


@pytest.mark.parametrize("place", range(6))
def test_case_34_a_deleted_entry(place: int, site: Site) -> None:
    found = lines(site)
    del found[place]
    write(site, found)
    broken(site)


@pytest.mark.parametrize("place", range(5))
def test_case_34_reordered_and_repeated_entries(place: int, site: Site) -> None:
    found = lines(site)
    swapped = [*found[:place], found[place + 1], found[place], *found[place + 2 :]]
    for changed in (swapped, [*found[: place + 1], *found[place:]]):
        write(site, changed)
        broken(site)


@pytest.mark.parametrize("left", range(6))
def test_case_34_a_tail_cut_off(left: int, site: Site) -> None:
    write(site, lines(site)[:left])
    assert "tail was cut" in str(broken(site))
    with pytest.raises(IntegrityError):
        site.audit.append("test.event", {})


def test_case_34_a_tail_cut_off_with_its_head_is_found_with_an_exported_head(site: Site, tmp_path: Path) -> None:
    old = copy_of(site.path / "audit", tmp_path / "audit")
    for _ in range(3):
        site.audit.append("test.event", {})
    exported = site.audit.verify()
    assert site.audit.verify(parse_head(f"{exported.sequence}:{exported.digest}")) == exported
    cut = AuditLog(old, site.key_id, site.signer)
    assert cut.verify().sequence == 6  # nothing in the folder itself can tell
    with pytest.raises(IntegrityError, match="tail was cut"):
        cut.verify(exported)
    with pytest.raises(IntegrityError, match="not the one that was recorded"):
        site.audit.verify(AuditHead(3, "0" * 64))


@pytest.mark.parametrize("text", ["", "3", "3:", ":abc", "x:" + "0" * 64, "3:" + "0" * 63, "²:" + "0" * 64])
def test_a_head_that_is_none(text: str) -> None:
    with pytest.raises(UsageError):
        parse_head(text)


def test_case_34_entries_signed_by_another_key(site: Site, tmp_path: Path) -> None:
    other = create_signing_key(tmp_path / "k", "site", None)
    found = lines(site)
    found[2] = forge(base64.b64decode(json.loads(found[2])["payload"]), "audit", other) + b"\n"
    write(site, found)
    broken(site)


def test_a_missing_head_and_a_missing_log(site: Site) -> None:
    head = site.path / "audit" / "head"
    data = head.read_bytes()
    head.unlink()
    assert "head is missing" in str(broken(site))
    head.write_bytes(data)
    site.audit.path.unlink()
    broken(site)
    with pytest.raises(IntegrityError):
        site.audit.append("test.event", {})


def test_an_append_that_was_killed_half_way_is_taken_up(site: Site) -> None:
    whole = lines(site)
    for fragment in (b"{", whole[-1][:-1], whole[-1][:200]):
        write(site, [*whole, fragment])
        assert site.audit.verify().sequence == len(whole)
        site.audit.append("test.event", {})
        whole = lines(site)
        assert site.audit.verify().sequence == len(whole)


def test_an_append_that_was_killed_before_its_head_is_kept(site: Site) -> None:
    head = site.path / "audit" / "head"
    before = head.read_bytes()
    site.audit.append("test.event", {"number": 99})
    head.write_bytes(before)
    assert site.audit.verify().sequence == 7
    site.audit.append("test.event", {})
    assert [entry.details.get("number") for entry in site.audit.entries()][-2:] == [99, None]
    assert site.audit.verify().sequence == 8


def test_entries_that_no_head_tells_of_are_kept_however_many(site: Site) -> None:
    head = site.path / "audit" / "head"
    before = head.read_bytes()
    for number in range(40):  # more than are read from the end
        site.audit.append("test.event", {"number": number, "text": "x" * 8000})
    head.write_bytes(before)
    site.audit.append("test.event", {"number": 99})
    assert site.audit.verify().sequence == 47
    write(site, [*lines(site)[:-2], lines(site)[-1]])
    head.write_bytes(before)
    with pytest.raises(IntegrityError, match="does not follow"):
        site.audit.append("test.event", {})


def test_an_entry_whose_head_cannot_be_written_is_not_in_the_trail(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise EnvironmentUnfit("cannot write head: No space left on device")

    before = lines(site)
    with monkeypatch.context() as patch:
        patch.setattr(AuditLog, "_write_head", full)
        for _ in range(3):
            with pytest.raises(EnvironmentUnfit):
                site.audit.append("test.event", {})
            assert lines(site) == before
    site.audit.append("test.event", {})
    assert site.audit.verify().sequence == 7


def test_case_34_two_writers_at_once(site: Site) -> None:
    code = (
        "import sys; from pathlib import Path; from toolkit.site.layout import open_site\n"
        "for n in range(20): open_site(Path(sys.argv[1])).audit.append('test.writer', {'by': sys.argv[2], 'n': n})"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(site.path), name]) for name in ("a", "b")]
    assert [process.wait(timeout=60) for process in running] == [0, 0]
    assert site.audit.verify().sequence == 46
    written = [entry.details for entry in site.audit.entries() if entry.event == "test.writer"]
    for name in ("a", "b"):
        assert [one["n"] for one in written if one["by"] == name] == list(range(20))


def test_an_entry_that_cannot_be_written_down_is_refused_and_leaves_the_trail_alone(site: Site) -> None:
    before = site.audit.path.read_bytes()
    for details in ({"x": 1.5}, {"x": "y" * 70_000}, {"x": 2**60}):
        with pytest.raises((IntegrityError, ValueError)):
            site.audit.append("test.event", details)
    with pytest.raises(IntegrityError):
        site.audit.append("Not an event", {})
    assert site.audit.path.read_bytes() == before
    assert open_site(site.path).audit.verify().sequence == 6
