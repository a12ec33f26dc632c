"""Text down the line as a user sends it: a stranger's domain, installed by pip; a teacher that was taught to count; a
student that must come to count; kill -9 in the midst; and mistakes, each with its hint."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import torch
from counting_parts import WORDS, records, save_config, save_counter, save_tokenizer, write_rows
from safetensors.torch import load_file

from toolkit.cli.main import main
from toolkit.distil.cache import shelf
from toolkit.plan import Plan
from toolkit.protocols import PredictorFacts
from toolkit.tasks.text_generation import task
from toolkit.tasks.text_generation.evaluate import evaluate
from toolkit.tasks.text_generation.predictors import LanguagePredictor
from toolkit.tasks.text_generation.students import from_config, save
from toolkit.tasks.text_generation.teacher import read_teacher
from toolkit.workspace import file_digest

DOMAIN = Path(__file__).parents[1] / "contract" / "stranger_text"

ON_PREMISES = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "transformers", "onnx", "onnxscript"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""

KILLED = """
import os, signal, sys
import {module} as module
import toolkit.distil.checkpoints as checkpoints
from toolkit.cli.main import main

checkpoints.EVERY_SECONDS = 0.0
place = {place}
whole, calls = getattr(place, "{name}"), [0]

def fatal(*arguments, **settings):
    found = whole(*arguments, **settings)
    calls[0] += 1
    if calls[0] == {times}:
        os.kill(os.getpid(), signal.SIGKILL)
    return found

setattr(place, "{name}", fatal)
main()
"""
"""The command line, which dies by kill -9 right after a function has done its work so many times."""


@dataclass(frozen=True)
class Land:
    """Where everything lies: the installed domain, rows, the teacher, and students to be."""

    root: Path

    @property
    def typed(self) -> list[str]:
        return ["deploy", "--domain", "counting", "--data", str(self.root / "rows"), "--until", "evaluate"]

    @property
    def settings(self) -> dict[str, object]:
        return {
            "teacher.checkpoint": self.root / "counter", "student.checkpoint": self.root / "student",
            "recipe.epochs": 60, "recipe.learning_rate": 0.01, "compute.threads": 1, "compute.device": "cpu",
        }  # fmt: skip

    def words(self, **changed: object) -> list[str]:
        settings = self.settings | {name.replace("__", "."): value for name, value in changed.items()}
        return [word for name, value in settings.items() if value is not None for word in ("--set", f"{name}={value}")]

    def environment(self, home: str) -> dict[str, str]:
        path = [str(self.root / "packages"), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {**os.environ, "TOOLKIT_HOME": str(self.root / home), "PYTHONPATH": os.pathsep.join(path)}

    def run(self, home: str, *arguments: str, program: str = "") -> subprocess.CompletedProcess[str]:
        command = ["-c", program] if program else ["-m", "toolkit.cli.main"]
        return subprocess.run(
            [sys.executable, *command, *arguments], env=self.environment(home), cwd=self.root, capture_output=True,
            text=True, timeout=300,
        )  # fmt: skip

    def deploy(self, home: str) -> dict[str, Any]:
        said = self.run(home, *self.typed, *self.words(), "--json")
        assert said.returncode == 0, said.stderr
        assert "Traceback" not in said.stderr
        found: dict[str, Any] = json.loads(said.stdout)
        return found

    def made(self, home: str) -> dict[str, str]:
        """Digests of all that was written, labelled and trained."""
        found: dict[str, str] = {}
        for kind in ("labels", "student"):
            (folder,) = (self.root / home / "store" / kind).glob("[!.]*")
            for path in folder.rglob("*"):
                if path.suffix in (".safetensors", ".jsonl") or path.name in ("student.json", "baseline.json"):
                    found[f"{kind}/{path.relative_to(folder)}"] = file_digest(path)
        return found


@pytest.fixture(scope="module")
def land(tmp_path_factory: pytest.TempPathFactory) -> Land:
    root = tmp_path_factory.mktemp("land")
    source = shutil.copytree(DOMAIN, root / "source")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-index", "--no-build-isolation", "--target", str(root / "packages"), str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    save_counter(root / "counter")
    save_config(root / "student", head_dim=16, intermediate_size=32)
    write_rows(root / "rows" / "train.jsonl", records(100, 30))
    (root / "rows" / "LICENSE").write_text("CC0-1.0\n")
    return Land(root)


@pytest.fixture(scope="module")
def deployed(land: Land) -> dict[str, Any]:
    return land.deploy("whole")


Toolkit = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def toolkit(
    land: Land, deployed: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Toolkit]:
    """The command line in this process, in the home of the whole deployment."""
    monkeypatch.syspath_prepend(land.root / "packages")
    for name in ("TOOLKIT_HOME", "PYTHONPATH"):  # the server that a line ends with is a process of its own
        monkeypatch.setenv(name, land.environment("whole")[name])
    monkeypatch.chdir(land.root)

    def run(*arguments: str) -> tuple[int, dict[str, Any]]:
        with pytest.raises(SystemExit) as left:
            main([*arguments, "--json"])
        return int(left.value.code or 0), json.loads(capfd.readouterr().out)

    return run


def stage(record: dict[str, Any], name: str) -> Path:
    return next(Path(one["path"]) for one in record["stages"] if one["name"] == name)


def test_it_goes_as_far_as_its_scores_and_is_kept(land: Land, deployed: dict[str, Any], toolkit: Toolkit) -> None:
    assert [(one["name"], one["state"]) for one in deployed["stages"]] == [
        (name, "done") for name in ("prepare", "label", "distil", "evaluate")
    ]
    code, again = toolkit(*land.typed, *land.words())
    assert code == 0
    assert {one["state"] for one in again["stages"]} == {"kept"}
    assert [one["digest"] for one in again["stages"]] == [one["digest"] for one in deployed["stages"]]


@pytest.mark.slow
def test_two_processes_with_half_the_student_each_make_the_same_one(land: Land, deployed: dict[str, Any]) -> None:
    """Within the order of sums, and as the same files; half of it in the memory of each."""
    launched = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "toolkit.cli.main"]
    command = [sys.executable, *launched, *land.typed, *land.words(compute__sharding="full"), "--json"]
    said = subprocess.run(
        command, env=land.environment("halves"), cwd=land.root, capture_output=True, text=True, timeout=600
    )
    assert said.returncode == 0, said.stderr
    whole, halves = stage(deployed, "distil"), stage(json.loads(said.stdout), "distil")
    assert whole.name == halves.name
    names = sorted(path.relative_to(whole) for path in (whole / "student").rglob("*"))
    assert names == sorted(path.relative_to(halves) for path in (halves / "student").rglob("*"))
    assert (whole / "student/config.json").read_bytes() == (halves / "student/config.json").read_bytes()
    for which in ("student", "baseline"):
        one, two = (load_file(folder / which / "model.safetensors") for folder in (whole, halves))
        assert one.keys() == two.keys()
        for name, weight in one.items():
            torch.testing.assert_close(two[name], weight, rtol=1e-2, atol=1e-2)
        first, second = (json.loads((folder / f"{which}.json").read_bytes()) for folder in (whole, halves))
        assert max(second["held_bytes"]) < 0.55 * first["held_bytes"][0]


def test_the_student_comes_to_count_as_does_the_one_on_labels_alone(deployed: dict[str, Any], tmp_path: Path) -> None:
    scored = {
        form: json.loads((stage(deployed, "evaluate") / f"{form}.json").read_bytes())["metrics"]
        for form in ("teacher", "student", "baseline")
    }
    loss = {form: metrics["log_loss"]["value"] for form, metrics in scored.items()}
    right = {form: metrics["accuracy"]["value"] for form, metrics in scored.items()}
    untrained = score_untrained(stage(deployed, "prepare"), tmp_path)
    assert untrained == pytest.approx(np.log(24), abs=0.2)
    assert loss["teacher"] < 0.1
    assert right["teacher"] == 1
    # Both come to the end of what there is to learn; which is ahead by a thousandth of a nat differs from processor to
    # processor.
    assert max(loss["student"], loss["baseline"]) < 0.1 < untrained
    assert loss["student"] < untrained / 3
    assert right["student"] > 0.6


def score_untrained(dataset: Path, folder: Path) -> float:
    """Nats a token of a student of the same kind that nobody has taught."""
    save(from_config(save_config(folder / "config"), seed=0), folder, save_tokenizer(folder))
    facts = json.loads((dataset / "artifact.json").read_bytes())["facts"]
    predictor = LanguagePredictor(read_teacher(folder), PredictorFacts("student", "torch", ""))
    plan = Plan(domain="counting", task="text_generation")
    rows = task.open_dataset(dataset, "", facts)
    return evaluate(plan.model_copy(update={"text": plan.text.model_copy(update={"answer_tokens": 8})}), rows,
                    predictor).metrics["log_loss"].value  # fmt: skip


def test_the_plan_shows_what_the_task_wants(toolkit: Toolkit, land: Land) -> None:
    code, record = toolkit("plan", "--domain", "counting", "--data", str(land.root / "rows"), *land.words())
    assert code == 0
    found = {row["key"]: (row["value"], row["from"]) for row in record["plan"]}
    assert found["teacher.name"] == ("transformers", "task")
    assert found["recipe.name"] == ("sequence", "task")
    assert found["recipe.batch_size"] == (16, "task")
    assert found["recipe.epochs"] == (60, "--set")
    assert found["text.max_tokens"] == (48, "domain")
    assert found["task"] == ("text_generation", "domain")
    assert found["text.samples"] == (1, "default")
    assert record["estimate"]["seconds"]["distil"] > 0


@pytest.mark.crash
def test_killed_while_it_writes_labels_and_trains_it_ends_with_the_same_weights(
    land: Land, toolkit: Toolkit, monkeypatch: pytest.MonkeyPatch
) -> None:
    deaths = (
        ("toolkit.distil.journal", "module.Journal", "add", 5),
        ("toolkit.distil.cache.store", "module", "write_shard", 1),
        ("toolkit.distil.checkpoints", "module.Checkpoints", "save", 7),
    )
    for module, place, name, times in deaths:
        program = KILLED.format(module=module, place=place, name=name, times=times)
        died = land.run("broken", *land.typed, *land.words(), program=program)
        assert died.returncode == -9, died.stderr
    monkeypatch.setenv("TOOLKIT_HOME", str(land.root / "broken"))
    code, record = toolkit(*land.typed, *land.words())
    assert code == 0, record
    states = {one["name"]: one["state"] for one in record["stages"]}
    assert states == {"prepare": "kept", "label": "kept", "distil": "done", "evaluate": "done"}
    found = land.made("broken")
    assert found == land.made("whole")
    assert {"student/student/model.safetensors", "student/baseline/model.safetensors"} <= set(found)
    assert sum(name.startswith("labels/cache") for name in found) == 2


def test_a_flipped_bit_in_what_the_teacher_said_is_found_and_mended(
    land: Land, deployed: dict[str, Any], toolkit: Toolkit
) -> None:
    before = land.made("whole")
    labels = stage(deployed, "label")
    shard = min(labels.glob("cache/*/shard-*.safetensors"))
    data = bytearray(shard.read_bytes())
    data[-3] ^= 1
    shard.write_bytes(data)
    code, record = toolkit(*land.typed, *land.words())
    assert (code, [one["state"] for one in record["stages"]]) == (0, ["kept", "done", "kept", "kept"])
    facts = json.loads((labels / "artifact.json").read_bytes())["facts"]
    assert facts["mended"] == [f"cache/{shard.parent.name}/{shard.name}"]
    found = land.made("whole")
    assert len(found) == len(before)
    assert {name for name in found.keys() & before.keys() if found[name] != before[name]} == set()
    assert not shelf.damaged(labels)


def test_the_student_is_compiled_and_answers_as_it_did_in_torch(
    land: Land, deployed: dict[str, Any], toolkit: Toolkit
) -> None:
    pytest.importorskip("onnxruntime_genai", reason="what runs language models is not installed: the extra language")
    assert stage(deployed, "evaluate")
    code, record = toolkit(*land.typed[:-1], "compile", *land.words())
    assert code == 0, record
    states = {one["name"]: one["state"] for one in record["stages"]}
    assert states.pop("compile") == "done"
    assert set(states.values()) == {"kept"}
    folder = stage(record, "compile")
    facts = json.loads((folder / "artifact.json").read_bytes())["facts"]
    assert [one["form"] for one in facts["forms"]] == ["int4", "int8", "fp32"]
    assert facts["parity"]["largest_difference"] < (1e-4 if facts["form"] == "fp32" else 0.2)
    assert facts["same_texts"] >= 0.75
    assert (folder / "model.onnx").stat().st_size == facts["size_bytes"]


MISTAKES: dict[str, tuple[dict[str, object], str, str]] = {
    "a pruned student of a black box": (
        {"teacher.name": "recorded", "recipe.teacher_weight": 0, "student.checkpoint": None},
        "can be pruned from a teacher on this machine only", "student.checkpoint=FOLDER",
    ),
    "tokens of a black box": ({"teacher.name": "recorded"}, "recorded only answers", "recipe.teacher_weight=0"),
    "nothing known of tokens": ({"text.knowledge": "none"}, "text.knowledge is none", "recipe.teacher_weight=0"),
    "objectives of pictures": ({"recipe.name": "white-box"}, "cannot learn by feature", "recipe.name=sequence"),
    "a teacher of pictures": ({"teacher.name": "tiny-none"}, "tiny-none", ""),
    "a teacher that is not there": ({"teacher.checkpoint": "nowhere"}, "no Hugging Face checkpoint", "save_pretrained"),
    "a file that is not there": ({"teacher.checkpoint": "no.gguf"}, "does not exist", ".gguf"),
    "no teacher at all": ({"teacher.checkpoint": None}, "needs a checkpoint", "teacher.checkpoint"),
    "a student that is not there": ({"student.checkpoint": "nowhere"}, "no config.json", "save_pretrained"),
    "rows all too long": ({"text.max_tokens": 8}, "have more than 8 tokens", "text.max_tokens"),
    "a row shorter than a sample": ({"text.row_tokens": 16}, "would not fit into a row", ""),
    "answers without room": ({"text.answer_tokens": 60}, "an answer of 60", "fewer tokens"),
    "a student that counts in other tokens": ({"student.checkpoint": "other"}, "ends with the token", "tokenizer"),
    "a student with fewer tokens": (
        {"student.checkpoint": "thin", "recipe.teacher_weight": 0}, "has 20 tokens, its model only 12", "resize",
    ),
    "a student with more tokens": ({"student.checkpoint": "wide"}, "the student's 32", "text.vocabulary=24"),
}  # fmt: skip


@pytest.fixture(scope="module")
def wrong_students(land: Land) -> None:
    save_config(land.root / "other")
    save_tokenizer(land.root / "other", WORDS[::-1])
    save_config(land.root / "thin", vocab_size=12)
    save_config(land.root / "wide", vocab_size=32)


@pytest.mark.usefixtures("wrong_students")
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_what_to_do(mistake: str, toolkit: Toolkit, land: Land) -> None:
    changed, says, hint = MISTAKES[mistake]
    code, record = toolkit(*land.typed, *land.words(**changed))
    assert code == 2, record
    assert says in record["error"]["message"]
    assert hint in record["error"]["hint"]


def test_a_student_that_could_not_be_compiled_is_not_trained_for_it(toolkit: Toolkit, land: Land) -> None:
    pytest.importorskip("onnxruntime_genai", reason="what runs language models is not installed: the extra language")
    save_config(land.root / "narrow", head_dim=8)
    code, record = toolkit(*land.typed[:-1], "compile", *land.words(**{"student.checkpoint": "narrow"}))
    assert (code, "heads are 8 wide" in record["error"]["message"]) == (2, True)
    assert not record.get("stages")


def test_it_wants_data_of_a_domain_without_a_sample(toolkit: Toolkit, land: Land) -> None:
    code, record = toolkit("deploy", "--domain", "counting", "--until", "evaluate", *land.words())
    assert (code, record["error"]["hint"]) == (2, "Name your data: --data FOLDER")


def test_the_line_ends_with_an_answer_served_without_torch_and_is_kept(
    land: Land, deployed: dict[str, Any], toolkit: Toolkit, tmp_path: Path
) -> None:
    """To the end, and again; then what a site's own environment serves to a real client, and scores."""
    pytest.importorskip("onnxruntime_genai", reason="what runs language models is not installed: the extra language")
    typed = [*land.typed[:-1], "check", *land.words(gate__small_sample="warn"), "--site", str(tmp_path / "site")]
    code, record = toolkit(*typed)
    assert code == 0, record
    scored = json.loads((stage(record, "gate") / "compiled.json").read_bytes())["per_row"]
    assert record["answer"]["verdict"] == next(row["text"] for row in scored if row["id"] == record["answer"]["row"])
    assert record["answer"]["bundle"] == record["bundle_id"]
    assert record["judged"] == "accuracy"
    assert record["ratios"]["size"]["value"] > 1
    assert min(record["costs"][what] for what in ("latency", "size", "memory")) > 0
    page = Path(record["report"]).read_text()
    assert "What it writes" in page
    assert "picture" not in page.partition("<body>")[2]
    code, again = toolkit(*typed)
    assert (code, {one["state"] for one in again["stages"]}) == (0, {"kept"})
    assert "/products/" not in again["answer"]["curl"]
    code, beside = toolkit(*typed, "--set", "product=second")
    assert code == 0, beside  # it was the second product that answered, though the site's first is asked by default
    assert beside["answer"]["bundle"].startswith("second-1-")
    assert "http://127.0.0.1:8080/products/second/v1/" in beside["answer"]["curl"]

    key = toolkit("access", "add", "line-1", "--role", "infer", "--site", str(tmp_path / "site"))[1]["key"]
    with on_premises(land, tmp_path) as (shell, url):
        with openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client:
            stream = client.chat.completions.create(
                model="", messages=[{"role": "user", "content": "one two"}], stream=True
            )
            assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "three"
        found = shell("evaluate", "--site", str(tmp_path / "site"), "--data", str(land.root / "rows"))
        asked = ["--benchmark", str(land.root / "sums.jsonl"), "--tokens", "4", "--site", str(tmp_path / "site")]
        (land.root / "sums.jsonl").write_text('{"question": "one two", "answer": "#### 3"}\n' * 3)
        benchmark = shell("evaluate", *asked)
    assert found["metrics"]["accuracy"]["value"] >= 0.9
    assert {"token_accuracy", "log_loss"} <= set(found["metrics"])
    assert [(one["form"], set(one["metrics"])) for one in benchmark["models"]] == [
        ("installed", {"strict_match", "flexible_extract"})
    ]
    code, beside = toolkit("evaluate", *asked, "--teacher", "transformers", *land.words())
    assert code == 0, beside
    assert [one["form"] for one in beside["models"]] == ["installed", "teacher"]
    assert beside["models"][0] == benchmark["models"][0]
    assert [(row["id"], row["strict_match"]) for row in beside["models"][1]["per_row"]] == [
        (f"sums/{number}", False) for number in range(3)
    ]
    assert toolkit("evaluate", "--site", str(tmp_path / "site"))[1]["error"]["hint"].startswith("Name a folder")


@contextmanager
def on_premises(land: Land, folder: Path) -> Iterator[tuple[Callable[..., dict[str, Any]], str]]:
    """A site whose environment has nothing of the training side: its shell, and its server."""
    (folder / "sitecustomize.py").write_text(ON_PREMISES)
    environment = land.environment("whole")
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), environment["PYTHONPATH"]])
    command = [sys.executable, "-m", "toolkit.cli.main"]

    def shell(*arguments: str) -> dict[str, Any]:
        said = subprocess.run([*command, *arguments, "--json"], env=environment, capture_output=True, text=True)
        assert said.returncode == 0, said.stderr
        found: dict[str, Any] = json.loads(said.stdout)
        return found

    serve = [*command, "serve", "--site", str(folder / "site"), "--port", "0"]
    process = subprocess.Popen(serve, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        told = process.stdout.readline()
        yield shell, told.partition(" at ")[2].split()[0]
    finally:
        process.terminate()
        process.communicate(timeout=60)
