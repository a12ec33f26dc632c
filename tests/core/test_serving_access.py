"""API keys of a site: hashed, named, with roles, and read again when they change."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from case_parts import run
from seal_parts import make_home

from toolkit.errors import IntegrityError, UsageError
from toolkit.serving.access import Access, Identity, add_key, credential, list_keys, remove_key


def test_the_trail_says_who_got_a_key_and_lost_it_and_never_the_key(tmp_path: Path) -> None:
    site = make_home(tmp_path).site()
    made = run("access", "add", "line-1", "--role", "infer", "--rate", "20/s", "--site", site.path, "--json")
    assert run("access", "remove", "line-1", "--site", site.path).code == 0
    added, removed = (trail := list(site.audit.entries()))[-2:]
    assert (added.event, added.details["name"], added.details["role"]) == ("access.added", "line-1", "infer")
    assert (removed.event, removed.details["name"]) == ("access.removed", "line-1")
    assert json.loads(made.out)["key"] not in str(trail)
    assert run("access", "add", "line-2", "--role", "infer", "--site", tmp_path / "elsewhere").code == 2


def test_a_key_opens_for_whom_it_was_made(tmp_path: Path) -> None:
    line = add_key(tmp_path, "line-1", "infer")
    boss = add_key(tmp_path, "boss", "admin")
    access = Access(tmp_path)
    assert access.authenticate(line) == Identity("line-1", "infer")
    assert access.authenticate(boss) == Identity("boss", "admin")


@pytest.mark.parametrize("wrong", [None, "", "tk_", "x" * 5000, "ключ", "\udcff"])
def test_anything_else_opens_nothing(tmp_path: Path, wrong: str | None) -> None:
    add_key(tmp_path, "line-1", "infer")
    assert Access(tmp_path).authenticate(wrong) is None


def test_a_site_without_keys_lets_nobody_in(tmp_path: Path) -> None:
    assert Access(tmp_path).authenticate("tk_anything") is None


def test_the_file_holds_no_key_and_is_the_owners_alone(tmp_path: Path) -> None:
    secret = add_key(tmp_path, "line-1", "infer")
    again = add_key(tmp_path, "line-2", "infer")
    path = tmp_path / "access.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    assert secret not in text
    assert secret.removeprefix("tk_") not in text
    first, second = json.loads(text)["keys"]
    assert first["salt"] != second["salt"]
    assert secret != again
    assert len(secret) >= 43


def test_a_running_server_sees_keys_come_and_go(tmp_path: Path) -> None:
    access = Access(tmp_path)
    secret = add_key(tmp_path, "line-1", "infer")
    assert access.authenticate(secret) is not None
    other = add_key(tmp_path, "line-2", "operate")
    assert access.authenticate(other) == Identity("line-2", "operate")
    remove_key(tmp_path, "line-1")
    assert access.authenticate(secret) is None
    (tmp_path / "access.json").unlink()
    assert access.authenticate(other) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"keys": [{"name": "x"}]}', '{"keys": 3}'])
def test_a_damaged_file_lets_nobody_in_and_says_so(tmp_path: Path, text: str) -> None:
    secret = add_key(tmp_path, "line-1", "infer")
    access = Access(tmp_path)
    assert access.authenticate(secret) is not None
    (tmp_path / "access.json").write_text(text)
    with pytest.raises(IntegrityError):
        access.authenticate(secret)
    with pytest.raises(IntegrityError):
        access.authenticate(secret)


def test_names_and_roles_are_checked(tmp_path: Path) -> None:
    add_key(tmp_path, "line-1", "infer")
    with pytest.raises(UsageError, match="exists"):
        add_key(tmp_path, "line-1", "admin")
    with pytest.raises(UsageError, match="cannot name"):
        add_key(tmp_path, "../x", "infer")
    with pytest.raises(UsageError, match="no role"):
        add_key(tmp_path, "line-2", "root")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no key is named"):
        remove_key(tmp_path, "line-9")
    with pytest.raises(UsageError, match="no site"):
        add_key(tmp_path / "nowhere", "line-1", "infer")
    assert [key.name for key in list_keys(tmp_path)] == ["line-1"]


def test_a_role_may_what_lesser_roles_may() -> None:
    allowed = {role: [other for other in ("infer", "operate", "admin") if Identity("x", role).may(other)]
               for role in ("infer", "operate", "admin")}  # fmt: skip
    assert allowed == {"infer": ["infer"], "operate": ["infer", "operate"], "admin": ["infer", "operate", "admin"]}


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([(b"authorization", b"Bearer tk_1")], "tk_1"),
        ([(b"authorization", b"bearer   tk_1 ")], "tk_1"),
        ([(b"x-api-key", b"tk_2")], "tk_2"),
        ([(b"authorization", b"Basic abc"), (b"x-api-key", b"tk_2")], "tk_2"),
        ([(b"authorization", b"Basic abc")], None),
        ([(b"authorization", b"tk_1")], None),
        ([(b"cookie", b"tk_1")], None),
        ([], None),
    ],
)
def test_where_a_request_may_bear_its_key(headers: list[tuple[bytes, bytes]], found: str | None) -> None:
    assert credential(headers) == found
