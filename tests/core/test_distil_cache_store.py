"""The token cache: read as written, self-describing, taken up after a crash, mended shard by shard."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crash_parts import killed_at
from scipy.special import log_softmax, logsumexp

from toolkit.distil.cache.codecs import HiddenCodec, TopKCodec
from toolkit.distil.cache.mass import LowMass
from toolkit.distil.cache.shards import read_header
from toolkit.distil.cache.store import ABOUT, INDEX, Origin, Sample, TokenCache
from toolkit.errors import DataError, EnvironmentUnfit, IntegrityError
from toolkit.workspace import folder_lock

K, VOCABULARY, WIDTH, SAMPLES, A_SHARD = 5, 40, 6, 11, 3
TOPK, HIDDEN = TopKCodec(K, VOCABULARY), HiddenCodec(WIDTH, VOCABULARY)
ORIGIN = Origin("tiny", "a" * 64, "b" * 64, "c" * 64, "d" * 64, {"temperature": 0.7, "seed": 1})
IDS = [f"row/{number}" for number in range(SAMPLES)]


def said(identity: str, codec: TopKCodec | HiddenCodec = TOPK) -> Sample:
    """What the teacher says of a sample: 0 to 8 tokens, always the same, by scipy."""
    draw = np.random.default_rng(IDS.index(identity))
    tokens = IDS.index(identity) * 5 % 9
    if codec == HIDDEN:
        return Sample(identity, {"hidden": draw.normal(0, 3, (tokens, WIDTH)).astype(np.float32)})
    logs = log_softmax(draw.normal(0, 4, (tokens, VOCABULARY)), axis=1)
    order = np.argsort(-logs, axis=1)
    return Sample(identity, {
        "indices": order[:, :K], "log_probs": np.take_along_axis(logs, order[:, :K], 1),
        "log_rest": logsumexp(np.take_along_axis(logs, order[:, K:], 1), axis=1),
    })  # fmt: skip


class Teacher:
    """Labels what it is asked for, remembers what, and gives up before a chosen sample."""

    def __init__(self, codec: TopKCodec | HiddenCodec = TOPK, until: str = "") -> None:
        self.codec, self.until, self.asked = codec, until, list[str]()

    def __call__(self, ids: Sequence[str]) -> Iterator[Sample]:
        for identity in ids:
            if identity == self.until:
                raise InterruptedError
            self.asked.append(identity)
            yield said(identity, self.codec)


def opened(root: Path, codec: TopKCodec | HiddenCodec = TOPK, origin: Origin = ORIGIN) -> TokenCache:
    return TokenCache.open(root, origin, codec)


def fill(cache: TokenCache, teacher: Callable[[Sequence[str]], Iterator[Sample]] | None = None) -> int:
    return cache.write((teacher or Teacher(cache.codec))(cache.missing(IDS)), shard_samples=A_SHARD, enough=0)


def filled(root: Path, codec: TopKCodec | HiddenCodec = TOPK) -> TokenCache:
    cache = opened(root, codec)
    fill(cache)
    cache.finish(IDS)
    return cache


def assert_all_there(cache: TokenCache) -> None:
    for identity in IDS:
        exact, read = said(identity, cache.codec).arrays, cache.read(identity)
        assert set(read) == set(exact)
        for one in cache.codec.fields:
            assert read[one.name].dtype == one.dtype
            np.testing.assert_array_equal(read[one.name], exact[one.name].astype(one.dtype))


def shards(cache: TokenCache) -> list[Path]:
    return sorted(cache.folder.glob("shard-*"))


@pytest.mark.parametrize("codec", [TOPK, HIDDEN], ids=lambda codec: codec.name)
def test_samples_of_any_length_come_back_as_they_were(tmp_path: Path, codec: TopKCodec | HiddenCodec) -> None:
    cache = filled(tmp_path, codec)
    assert_all_there(cache)
    assert_all_there(opened(tmp_path, codec))
    assert_all_there(TokenCache.at(cache.folder))
    assert len(cache) == SAMPLES
    assert cache.tokens == sum(number * 5 % 9 for number in range(SAMPLES))
    assert len(shards(cache)) == 4
    assert cache.missing(IDS) == []
    assert cache.complete
    assert cache.size_bytes == sum(path.stat().st_size for path in shards(cache))


@pytest.mark.parametrize("codec", [TOPK, HIDDEN], ids=lambda codec: codec.name)
def test_several_samples_are_read_as_one(tmp_path: Path, codec: TopKCodec | HiddenCodec) -> None:
    cache = filled(tmp_path, codec)
    wanted = [IDS[7], IDS[0], IDS[3]]
    found = cache.read_many(wanted)
    for one in codec.fields:
        parts = [said(identity, codec).arrays[one.name].astype(one.dtype) for identity in wanted]
        np.testing.assert_array_equal(found[one.name], np.concatenate(parts))
        assert found[one.name].flags.writeable
    assert all(len(array) == 0 and array.dtype == one.dtype for one, array in
               zip(codec.fields, cache.read_many([]).values(), strict=True))  # fmt: skip


def test_what_is_read_is_mapped_and_cannot_be_changed(tmp_path: Path) -> None:
    array = filled(tmp_path).read(IDS[1])["log_probs"]
    assert not array.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 0


def test_more_shards_than_are_mapped_at_once_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolkit.distil.cache.store.MAPPED", 2)
    cache = filled(tmp_path)
    kept = cache.read(IDS[1])
    assert_all_there(cache)
    np.testing.assert_array_equal(kept["indices"], said(IDS[1]).arrays["indices"])


def test_a_sample_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row/99"):
        filled(tmp_path).read("row/99")


def test_a_shard_describes_itself(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    record = read_header(shards(cache)[1]).as_record()
    exact = [said(identity).arrays for identity in IDS[3:6]]
    log_probs = np.concatenate([one["log_probs"] for one in exact])
    every = np.concatenate([log_probs.ravel(), *(one["log_rest"] for one in exact)])
    errors = np.abs(every.astype(np.float16).astype(float) - every)
    assert record | {"payload_sha256": ""} == {
        "format": "toolkit-token-cache-1", "cache": cache.digest, "number": 1, "ids": IDS[3:6], "samples": 3,
        "tokens": len(log_probs), "codec": {"name": "topk", "k": K, "vocabulary": VOCABULARY},
        "origin": {
            "teacher": "tiny", "teacher_sha256": "a" * 64, "tokenizer_sha256": "b" * 64, "prompts_sha256": "c" * 64,
            "data_sha256": "d" * 64, "sampling": {"temperature": 0.7, "seed": 1},
        },
        "mass_at_k": pytest.approx(np.exp(log_probs).sum(axis=1).mean()), "payload_sha256": "",
        "error": {"mean": pytest.approx(errors.mean()), "max": pytest.approx(errors.max()), "measured": errors.size},
    }  # fmt: skip
    assert cache.quality.tokens == cache.tokens
    assert 0 < cache.quality.mass < 1


def test_a_shard_is_a_safetensors_file_that_others_read(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors", reason="comes with transformers")
    cache = filled(tmp_path)
    with safetensors.safe_open(shards(cache)[1], "numpy") as file:
        offsets = file.get_tensor("offsets")
        for row, identity in enumerate(IDS[3:6]):
            part = slice(offsets[row], offsets[row + 1])
            np.testing.assert_array_equal(file.get_tensor("indices")[part], said(identity).arrays["indices"])
            np.testing.assert_array_equal(file.get_tensor("log_rest")[part], cache.read(identity)["log_rest"])
        header = json.loads(file.metadata()["header"])
    assert header["ids"] == IDS[3:6]


def test_bytes_on_disk_are_those_of_the_tokens_and_little_else(tmp_path: Path) -> None:
    codec = TopKCodec(64, 49_152)
    draw = np.random.default_rng(0)
    logs = np.sort(np.log(draw.dirichlet(np.ones(65), 2000)))[:, ::-1]
    indices = np.argsort(draw.random((2000, 500)), axis=1)[:, :64]
    arrays = {"indices": indices, "log_probs": logs[:, :64], "log_rest": logs[:, 64]}
    cache = opened(tmp_path, codec)
    cache.write(
        (Sample(f"{row:064x}", {name: array[100 * row : 100 * row + 100] for name, array in arrays.items()})
         for row in range(20)), enough=0,
    )  # fmt: skip
    assert 258 <= cache.size_bytes / 2000 < 260


def test_the_same_origin_is_the_same_folder_and_any_other_is_not(tmp_path: Path) -> None:
    first = filled(tmp_path)
    assert opened(tmp_path).folder == first.folder
    others = [
        opened(tmp_path, TopKCodec(K + 1, VOCABULARY)),
        opened(tmp_path, HIDDEN),
        *(opened(tmp_path, origin=replace(ORIGIN, **{name: value})) for name, value in (
            ("teacher_sha256", "e" * 64), ("tokenizer_sha256", "e" * 64), ("prompts_sha256", "e" * 64),
            ("data_sha256", "e" * 64), ("sampling", {"temperature": 0.8, "seed": 1}),
        )),
    ]  # fmt: skip
    assert len({cache.folder for cache in [first, *others]}) == 8
    assert all(len(cache) == 0 for cache in others)
    assert opened(tmp_path, HiddenCodec(WIDTH, VOCABULARY, lambda hidden: hidden)).folder == others[1].folder


@pytest.mark.parametrize("until", [0, 1, 3, 4, 10])
def test_labelling_that_gives_up_keeps_what_it_got_and_goes_on_with_the_next(tmp_path: Path, until: int) -> None:
    with pytest.raises(InterruptedError):
        fill(opened(tmp_path), Teacher(until=IDS[until]))
    again, cache = Teacher(), opened(tmp_path)
    assert fill(cache, again) == SAMPLES - until
    assert again.asked == IDS[until:]
    assert_all_there(cache)


def test_killed_anywhere_finished_shards_stay_and_the_rest_is_taken_up(tmp_path: Path) -> None:
    point, kept = 0, set[int]()
    while True:
        point += 1
        root = tmp_path / str(point)
        died = killed_at(point, lambda root=root: filled(root))
        cache, again = opened(root), Teacher()
        kept.add(len(cache))
        missing = cache.missing(IDS)
        assert missing == IDS[len(cache) :]
        assert cache.verify() == []
        fill(cache, again)
        assert again.asked == missing
        assert_all_there(cache)
        assert not list(cache.folder.glob(".*.tmp"))
        if not died:
            break
    assert kept == {0, 3, 6, 9, 11}
    assert point > 20


DYING = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_distil_cache_store import IDS, fill, opened, said
def labels(ids):
    for identity in ids:
        if identity == IDS[7]:
            os._exit(9)
        yield said(identity)
fill(opened(Path(sys.argv[1])), labels)
"""


def test_a_process_that_dies_without_a_word_leaves_its_finished_shards(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", DYING, str(tmp_path), str(Path(__file__).parent)], env=os.environ)
    assert done.returncode == 9
    again, cache = Teacher(), opened(tmp_path)
    assert len(cache) == 6
    fill(cache, again)
    assert again.asked == IDS[6:]
    assert_all_there(cache)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def damage(kind: str, path: Path, other: Path) -> None:
    data = path.read_bytes()
    length = 8 + int.from_bytes(data[:8], "little")
    if kind == "gone":
        path.unlink()
    elif kind == "swapped":
        path.write_bytes(other.read_bytes())
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "cut":
        path.write_bytes(data[:-2])
    elif kind == "longer":
        path.write_bytes(data + b"\0\0")
    elif kind == "endless header":
        path.write_bytes((2**62).to_bytes(8, "little") + data[8:])
    else:
        flip(path, {"last byte": -1, "first offset": length, "length": 0, "an id": data.index(b"row/4") + 4,
                    "mass": data.index(b"mass_at_k") + 14, "digest": data.index(b'"sha256":"') + 12,
                    "table": data.index(b'"F16"') + 2}[kind])  # fmt: skip


DAMAGES = ("gone", "swapped", "empty", "cut", "longer", "endless header", "last byte", "first offset", "length",
           "an id", "mass", "digest", "table")  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_shard_is_named_and_its_samples_alone_are_labelled_again(tmp_path: Path, kind: str) -> None:
    cache = filled(tmp_path)
    victim = shards(cache)[1]
    damage(kind, victim, shards(cache)[2])
    for found in (cache, opened(tmp_path), TokenCache.at(cache.folder)):
        assert found.verify() == [victim.name]
    cache = opened(tmp_path)
    cache.drop(cache.verify())
    assert cache.missing(IDS) == IDS[3:6]
    again = Teacher()
    fill(cache, again)
    cache.finish(IDS)
    assert again.asked == IDS[3:6]
    assert cache.verify() == []
    assert_all_there(opened(tmp_path))


def test_a_shard_of_another_cache_is_not_believed(tmp_path: Path) -> None:
    cache, other = filled(tmp_path), filled(tmp_path / "other", TopKCodec(K, VOCABULARY))
    strange = opened(tmp_path, origin=replace(ORIGIN, teacher_sha256="e" * 64))
    fill(strange)
    shards(cache)[0].write_bytes(shards(strange)[0].read_bytes())
    assert opened(tmp_path).missing(IDS) == IDS[:3]
    assert opened(tmp_path).verify() == [shards(cache)[0].name]
    assert other.verify() == []


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"shards": 3}'])
def test_a_damaged_index_is_named_and_written_anew(tmp_path: Path, data: bytes) -> None:
    cache = filled(tmp_path)
    (cache.folder / INDEX).write_bytes(data)
    assert cache.verify() == [INDEX]
    assert not cache.complete
    cache.drop(cache.verify())
    assert cache.missing(IDS) == []
    cache.finish(IDS)
    assert cache.verify() == []


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", None])
def test_what_a_cache_says_of_itself_is_checked_and_written_anew(tmp_path: Path, data: bytes | None) -> None:
    cache = filled(tmp_path)
    about = cache.folder / ABOUT
    good = about.read_bytes()
    about.unlink()
    if data is not None:
        about.write_bytes(data)
    with pytest.raises(IntegrityError, match=ABOUT):
        TokenCache.at(cache.folder)
    about.write_bytes(good.replace(b'"tiny"', b'"Tiny"'))
    with pytest.raises(IntegrityError, match=ABOUT):
        TokenCache.at(cache.folder)
    assert_all_there(opened(tmp_path))
    assert about.read_bytes() == good


def test_a_sample_is_written_once(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    with pytest.raises(DataError, match=IDS[2]):
        cache.write([said(IDS[2])])
    fresh = opened(tmp_path / "fresh")
    with pytest.raises(DataError, match=IDS[2]):
        fresh.write([said(IDS[2]), said(IDS[2])], enough=0)
    assert len(fresh) == 1


@pytest.mark.parametrize("identity", ["a\nb", "\ud800", "\0"])
def test_an_id_that_is_no_text_is_refused(tmp_path: Path, identity: str) -> None:
    with pytest.raises(DataError):
        opened(tmp_path).write([Sample(identity, said(IDS[2]).arrays)])


def test_ids_of_any_script_are_kept(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    cache.write([Sample("größe/尺寸/🙂", said(IDS[1]).arrays)], enough=0)
    assert opened(tmp_path).missing(["größe/尺寸/🙂"]) == []


def test_what_a_teacher_cannot_have_said_stops_the_writing_and_keeps_the_rest(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    with pytest.raises(IntegrityError):
        cache.write([said(IDS[1]), Sample(IDS[2], said(IDS[2]).arrays | {"log_rest": np.full(1, np.nan)})], enough=0)
    assert opened(tmp_path).missing(IDS[:3]) == [IDS[0], IDS[2]]


def test_two_processes_do_not_write_at_once(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    with folder_lock(cache.folder, purpose="write"), pytest.raises(EnvironmentUnfit, match="in use"):
        fill(cache)
    fill(cache)
    assert_all_there(cache)


def test_what_another_run_wrote_meanwhile_is_seen(tmp_path: Path) -> None:
    mine, theirs = opened(tmp_path), opened(tmp_path)
    theirs.write(Teacher()(IDS[:4]), enough=0)
    with pytest.raises(DataError, match="already"):
        fill(mine)
    assert mine.missing(IDS) == IDS[4:]
    fill(mine)
    assert_all_there(mine)


def test_finishing_before_all_is_there_is_refused(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    cache.write(Teacher()(IDS[:4]), enough=0)
    with pytest.raises(DataError, match=IDS[4]):
        cache.finish(IDS)
    assert not cache.complete


def test_a_low_mass_is_told_after_the_first_shard(tmp_path: Path) -> None:
    """A flat teacher: 5 of 40 tokens have an eighth of the mass."""

    def flat(ids: Sequence[str]) -> Iterator[Sample]:
        for identity in ids:
            asked.append(identity)
            yield Sample(identity, {
                "indices": np.tile(np.arange(K), (4, 1)), "log_probs": np.full((4, K), -np.log(VOCABULARY)),
                "log_rest": np.full(4, np.log1p(-K / VOCABULARY)),
            })  # fmt: skip

    asked: list[str] = []
    cache = opened(tmp_path)
    with pytest.raises(LowMass) as caught:
        cache.write(flat(IDS), shard_samples=A_SHARD)
    assert caught.value.mass == pytest.approx(K / VOCABULARY)
    assert caught.value.advice.action == "hidden"
    assert asked == IDS[:A_SHARD]
    assert len(cache) == A_SHARD
    assert cache.write(flat(cache.missing(IDS)), shard_samples=A_SHARD, enough=0) == SAMPLES - A_SHARD


def test_memory_stays_that_of_a_shard_however_many_samples(tmp_path: Path) -> None:
    codec = HiddenCodec(256, VOCABULARY)
    hidden = np.ones((32, 256), np.float32)

    def peak(samples: int) -> int:
        cache = opened(tmp_path / str(samples), codec)
        tracemalloc.start()
        cache.write((Sample(str(row), {"hidden": hidden}) for row in range(samples)), shard_bytes=256 * 1024)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    payload = 160 * 32 * 256 * 2
    assert peak(160) < payload / 2
    assert len(shards(opened(tmp_path / "160", codec))) == 10


def test_looking_at_a_cache_needs_no_torch(tmp_path: Path) -> None:
    cache = filled(tmp_path)
    script = (
        "import sys\nfrom pathlib import Path\nfrom toolkit.distil.cache.store import TokenCache\n"
        "cache = TokenCache.at(Path(sys.argv[1]))\nassert not cache.verify() and len(cache) == 11\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(cache.folder)], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def index_of(cache: TokenCache) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((cache.folder / INDEX).read_bytes())
    return found


def test_what_is_added_later_is_not_yet_finished(tmp_path: Path) -> None:
    cache = opened(tmp_path)
    cache.write(Teacher()(IDS[:4]), enough=0)
    cache.finish(IDS[:4])
    assert index_of(cache)["samples"] == 4
    fill(cache)
    assert not cache.complete
    cache.finish(IDS)
    assert cache.complete
    assert index_of(cache)["samples"] == SAMPLES
