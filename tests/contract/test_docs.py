"""What the documentation says can be typed, exists; what is generated is up to date; what is quoted is the source."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import distributions
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from toolkit.tasks.text_generation.answers import answers_right
from toolkit.tasks.text_generation.rows import read_rows

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "deployments/**/*.md", "plugins/*/README.md", "domains/*/README.md")
    for path in REPOSITORY.glob(pattern)
)
PROGRAM = re.compile(r"(?:^|bin/|&& )toolkit (?=[a-z-])")


@cache
def generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate_docs", REPOSITORY / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(text: str, *languages: str) -> Iterator[str]:
    """The fenced code blocks in one of these languages, without the indentation of a list."""
    for indent, language, body in re.findall(r"^( *)```(\w+)\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
        if language in languages:
            yield re.sub(f"^{indent}", "", body, flags=re.MULTILINE)


def typed(page: Path) -> list[str]:
    """Every command line `toolkit ...` of a page: in its shell blocks, in indented blocks, and in its running text."""
    text = page.read_text(encoding="utf-8")
    lines = [line for block in blocks(text, "sh") for line in block.replace("\\\n", " ").splitlines()]
    outside = re.sub(r"^( *)```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE).replace("\\\n", " ")
    lines += [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", outside)]
    lines += re.findall(r"^    (toolkit .*)$", outside, re.MULTILINE)
    return [line[found.end() :] for line in lines if (found := PROGRAM.search(line))]


COMMANDS = [
    pytest.param(command, id=f"{page.relative_to(REPOSITORY)}: {command[:50]}")
    for page in PAGES
    if page.name != "reference.md"
    for command in typed(page)
]


@pytest.mark.parametrize("command", COMMANDS)
def test_what_the_docs_type_exists(command: str) -> None:
    words = shlex.split(command, comments=True)
    verbs = generator().commands()
    if words[0] in ("--help", "VERB"):
        return
    name = next((name for name in (" ".join(words[:2]), words[0]) if name in verbs), "")
    if not name and any(verb.startswith(f"{words[0]} ") for verb in verbs) and len(words) == 1:
        return  # the name of a group of verbs
    assert name, f"there is no verb `toolkit {' '.join(words[:2])}`"
    known = {option for parameter in verbs[name].params for option in (*parameter.opts, *parameter.secondary_opts)}
    rest = words[len(name.split()) :]
    for word in rest:
        if word.startswith("--"):
            assert word in known | {"--help", "--debug"}, f"`toolkit {name}` has no option {word}"
    for flag, value in pairwise(rest):
        if flag == "--set" and not value.isupper():
            key = value.partition("=")[0]
            assert key in generator().plan_keys() or key == "key", f"the plan has no key {key}"


def test_the_docs_type_something() -> None:
    assert len(COMMANDS) > 60


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def is_installed(project: Path) -> bool:
    name = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["name"]
    return any(found.name == name for found in distributions())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_configurations_in_the_docs_are_valid(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    if (project := page.with_name("pyproject.toml")).is_file() and not is_installed(project):
        pytest.skip(f"{project.parent.name} is not installed, so its keys are not known")
    for block in blocks(text, "toml"):
        table = tomllib.loads(block)
        for name, values in table.items():
            if name != "project":
                domain = name if name in ("education", "content") else "industry"
                known = {*generator().plan_keys(domain), *generator().site_keys()}
                assert {f"{name}.{key}" for key in values} <= known
    for block in blocks(text, "json"):
        json.loads(block)
    for block in blocks(text, "python"):
        if page.name != "hooks.md":
            compile(block, str(page), "exec")


def test_the_reference_is_up_to_date() -> None:
    """It has the keys of every plugin, so all must be installed."""
    missing = [path.parent.name for path in (REPOSITORY / "plugins").glob("*/pyproject.toml") if not is_installed(path)]
    if missing:
        pytest.skip(f"not installed, so its keys are not known: {', '.join(missing)}")
    made = (REPOSITORY / "docs" / "reference.md").read_text(encoding="utf-8")
    assert made == generator().reference(), "run python docs/generate.py"


def test_the_domain_that_is_shown_is_the_one_that_is_tested() -> None:
    shown = (REPOSITORY / "docs" / "howto" / "own-domain.md").read_text(encoding="utf-8")
    source = REPOSITORY / "tests" / "contract" / "stranger" / "src" / "toolkit_weld" / "__init__.py"
    assert source.read_text(encoding="utf-8") in list(blocks(shown, "python"))


def test_the_domain_of_text_that_is_shown_is_the_one_that_is_tested() -> None:
    shown = (REPOSITORY / "docs" / "howto" / "text.md").read_text(encoding="utf-8")
    source = REPOSITORY / "tests" / "contract" / "stranger_text" / "src" / "toolkit_counting" / "__init__.py"
    assert source.read_text(encoding="utf-8") in list(blocks(shown, "python"))


def test_the_rows_of_text_that_are_shown_are_read(tmp_path: Path) -> None:
    shown = (REPOSITORY / "docs" / "howto" / "text.md").read_text(encoding="utf-8")
    (block,) = blocks(shown, "jsonl")
    (tmp_path / "rows.jsonl").write_text(block, encoding="utf-8")
    corpus = read_rows(tmp_path)
    assert corpus.findings == ()
    assert [row.answer for row in corpus.rows] == ["72", "6", "", "", "4", ""]
    assert all(answers_right(row.completion, row.answer) for row in corpus.rows if row.completion and row.answer)


def test_a_strangers_domain_fits_in_about_thirty_lines() -> None:
    source = REPOSITORY / "tests" / "contract" / "stranger" / "src" / "toolkit_weld" / "__init__.py"
    assert len(source.read_text(encoding="utf-8").splitlines()) <= 35


def test_every_distribution_has_a_readme_and_a_licence() -> None:
    for project in (REPOSITORY, *(path.parent for path in REPOSITORY.glob("*/*/pyproject.toml") if path.parts[-4:])):
        if "tests" in project.relative_to(REPOSITORY).parts:
            continue
        about = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert about["license"] == "Apache-2.0"
        assert (project / about["readme"]).read_text(encoding="utf-8").strip(), f"{project} says nothing of itself"
