"""Mutates a sealed bundle again and again and has `toolkit verify BUNDLE --json` look at it, in this process.

    python tests/fuzz/bundles.py [--mutations 100000] [--seconds 0] [--seed 1]

Random bytes, JSON that another key signed, files moved, linked, cut and added. Nothing may be accepted, no error but
ours may leave, and memory may not grow by more than 64 MiB over what it was after the first hundred. Prints one JSON
object; exit 1 where any of that did not hold.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import functools
import io
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "core"))

from seal_parts import Home, body_of, canonical, files_of, flipped, forge, make_home
from test_seal_mutations import mutated_bytes, mutated_value

import toolkit.cli.main as command_line

WARM_UP = 100
GROWTH = 64 * 1024 * 1024
Undo = Callable[[], object]


class Bundle:
    """A bundle that is altered and put right again. A mutation returns its undoing; None where it changed nothing."""

    def __init__(self, home: Home, stranger: Home, choose: random.Random) -> None:
        self.choose, self.stranger = choose, stranger
        self.path = home.granted(home.site(), b"weights " * 5000, plan=b"plan", empty=b"").path
        self.files = files_of(self.path)
        self.kept = {path: path.read_bytes() for path in self.files}

    def mutate(self) -> tuple[str, Undo] | None:
        kinds = [self.bytes, self.bits, self.signed, self.unsigned, self.moved, self.added, self.special, self.cut]
        kind = self.choose.choice(kinds)
        undo = kind()
        return None if undo is None else (kind.__name__, undo)

    def bytes(self) -> Undo | None:
        path = self.choose.choice(self.files)
        data = self.kept[path]
        return self._write(path, mutated_bytes(self.choose, data) if data else b"x")

    def bits(self) -> Undo | None:
        path = self.choose.choice([path for path in self.files if self.kept[path]])
        data = self.kept[path]
        for _ in range(self.choose.choice((1, 1, 1, 2, 5))):
            data = flipped(data, self.choose.randrange(8 * len(data)))
        return self._write(path, data)

    def cut(self) -> Undo | None:
        path = self.choose.choice([path for path in self.files if self.kept[path]])
        data = self.kept[path]
        end = self.choose.randrange(len(data))
        return self._write(path, self.choose.choice((data[:end], data[end:], data + data[:end], data + bytes(end))))

    def signed(self) -> Undo | None:
        """Well-formed and signed, by a key that this root does not name for it."""
        path, kind = self._envelope()
        keys = self.stranger.keys
        body = mutated_value(self.choose, body_of(path))
        with contextlib.suppress(ValueError, RecursionError):
            data = forge(canonical(body), kind, self.choose.choice((keys.publisher, keys.issuer)))
            if self.choose.random() < 0.5:  # under the name of the right key
                envelope = json.loads(data)
                envelope["signatures"][0]["keyid"] = json.loads(self.kept[path])["signatures"][0]["keyid"]
                data = canonical(envelope)
            return self._write(path, data)
        return None

    def unsigned(self) -> Undo | None:
        """The signature of what it was, around something else."""
        path, _kind = self._envelope()
        envelope = json.loads(self.kept[path])
        if self.choose.random() < 0.5:
            envelope = mutated_value(self.choose, envelope)
        else:
            body = mutated_value(self.choose, body_of(path))
            envelope["payload"] = base64.b64encode(canonical(body)).decode()
        return self._write(path, canonical(envelope))

    def moved(self) -> Undo | None:
        one, two = self.choose.sample(self.files, 2)
        if self.choose.random() < 0.5:
            return self._write(one, self.kept[two])
        aside = one.with_name(self.choose.choice(("0" * 64, "x", f"{'0' * 32}.dsse", one.name + "x")))
        one.rename(aside)
        return lambda: aside.rename(one)

    def added(self) -> Undo | None:
        names = (
            ".git/HEAD",
            "x",
            "blobs/x",
            "blobs/sha256/" + "a" * 64,
            f"grants/{'a' * 32}.dsse",
            "LICENSES/x.txt",
            "é",
        )
        path = self.path / self.choose.choice(names)
        existed = path.parent.exists()
        path.parent.mkdir(exist_ok=True)
        path.mkdir() if self.choose.random() < 0.2 else path.write_bytes(self.choose.choice(list(self.kept.values())))
        return lambda: self._remove(path, folder=not existed)

    def special(self) -> Undo | None:
        path = self.choose.choice(self.files)
        path.unlink()
        makes: list[Callable[[], object]] = [
            path.mkdir,
            lambda: path.symlink_to(self.path / "bundle.dsse"),
            lambda: os.mkfifo(path),
            lambda: (path.write_bytes(self.kept[path]), path.chmod(0o4644)),
            lambda: (path.touch(), os.truncate(path, 2**40)),
        ]
        if path.parent.name != "grants":  # a bundle without a grant is a bundle; an empty folder of them is none
            makes.append(lambda: None)
        self.choose.choice(makes)()
        return lambda: (self._remove(path), path.write_bytes(self.kept[path]))

    def _envelope(self) -> tuple[Path, str]:
        path = self.choose.choice([path for path in self.files if path.suffix == ".dsse"])
        return path, {"bundle.dsse": "bundle", "provenance.dsse": "in-toto"}.get(path.name, "grant")

    def _write(self, path: Path, data: bytes) -> Undo | None:
        if data == self.kept[path]:
            return None
        path.write_bytes(data)
        return lambda: path.write_bytes(self.kept[path])

    def _remove(self, path: Path, *, folder: bool = False) -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        if folder:
            path.parent.rmdir()


def resident() -> int:
    """Bytes of this process in RAM."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def verify(path: Path) -> tuple[int, dict[str, Any]]:
    """`toolkit verify PATH --json`: (exit code, what it printed)."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            command_line.main(["verify", str(path), "--json"])
        except SystemExit as left:
            return int(left.code or 0), json.loads(said.getvalue())
    raise AssertionError("a verb that does not end")


@contextlib.contextmanager
def bundle(seed: int) -> Iterator[Bundle]:
    ram = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=ram if ram.is_dir() else None, prefix="toolkit-fuzz-") as folder:
        os.environ["TOOLKIT_HOME"] = f"{folder}/home"
        home, stranger = make_home(Path(folder) / "home"), make_home(Path(folder) / "stranger")
        yield Bundle(home, stranger, random.Random(seed))


def run(mutations: int, seconds: float, seed: int) -> dict[str, Any]:
    """What came of it; ends after `mutations`, or after `seconds` where those are not 0."""
    # Putting the command line together costs more than a verb does; it is the same each time.
    command_line.build_app = functools.cache(command_line.build_app)
    command_line.typer.main.get_command = functools.cache(command_line.typer.main.get_command)
    kinds: Counter[str] = Counter()
    wrong: list[str] = []
    began, start, most = time.monotonic(), 0, 0
    with bundle(seed) as target:
        assert verify(target.path)[0] == 0
        while sum(kinds.values()) < mutations and not (seconds and time.monotonic() - began > seconds):
            made = target.mutate()
            if made is None:
                continue
            kind, undo = made
            code, said = verify(target.path)
            if code not in (4, 5) or "error" not in said:
                wrong.append(f"{kind}, number {sum(kinds.values())}: exit {code}, {json.dumps(said)[:300]}")
            undo()
            kinds[kind] += 1
            if sum(kinds.values()) == WARM_UP:
                start = resident()
            most = max(most, resident())
        assert verify(target.path)[0] == 0, "the bundle was not put right again"
    return {
        "mutations": sum(kinds.values()), "kinds": dict(sorted(kinds.items())), "wrong": wrong[:20],
        "seconds": round(time.monotonic() - began, 1), "seed": seed,
        "mib_at_start": round(start / 2**20, 1), "mib_more_at_most": round((most - start) / 2**20, 1),
        "ok": not wrong and most - start <= GROWTH,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutations", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    found = run(**vars(parser.parse_args()))
    print(json.dumps(found, indent=2))
    sys.exit(0 if found["ok"] else 1)


if __name__ == "__main__":
    main()
