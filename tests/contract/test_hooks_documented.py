"""No hook without its documentation and its test, and no documentation of a hook that is not there."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

from toolkit import hookspecs


def specifications() -> dict[str, ast.FunctionDef]:
    """Each hook's definition, as it is written in hookspecs.py."""
    tree = ast.parse(inspect.getsource(hookspecs))
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


HOOKS = specifications()


def signature(hook: ast.FunctionDef) -> str:
    """`draft_plan(options: Options) -> Plan | None`"""
    assert hook.returns is not None
    return f"{hook.name}({ast.unparse(hook.args)}) -> {ast.unparse(hook.returns)}"


@pytest.fixture(scope="module")
def documented() -> str:
    return (Path(__file__).parents[2] / "docs" / "hooks.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", HOOKS)
def test_the_exact_signature_is_documented(name: str, documented: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", documented, re.DOTALL)
    written = {" ".join(block.split()).replace("( ", "(").replace(" )", ")") for block in blocks}
    assert signature(HOOKS[name]) in written


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_says_what_it_is_for_in_its_own_section(name: str, documented: str) -> None:
    section = re.search(rf"^### {name}\n(.*?)(?=^##|\Z)", documented, re.DOTALL | re.MULTILINE)
    assert section, f"docs/hooks.md has no section {name}"
    prose = re.sub(r"```.*?```", "", section[1], flags=re.DOTALL)
    assert len(prose.split()) >= 8, f"docs/hooks.md says next to nothing about {name}"


def test_nothing_is_documented_that_is_no_hook(documented: str) -> None:
    assert set(re.findall(r"^### (\w+)$", documented, re.MULTILINE)) == set(HOOKS)


def test_the_hooks_stand_in_the_order_of_the_source(documented: str) -> None:
    assert re.findall(r"^### (\w+)$", documented, re.MULTILINE) == list(HOOKS)


@pytest.mark.parametrize("name", HOOKS)
def test_a_test_of_that_name_exists(name: str, repository: Path) -> None:
    sources = [path for root in ("tests", "plugins", "domains") for path in (repository / root).rglob("test_*.py")]
    wanted = re.compile(rf"^def test_hook_{name}\b", re.MULTILINE)
    assert any(wanted.search(path.read_text(encoding="utf-8")) for path in sources)


def test_every_hook_is_specified_with_a_docstring_and_types() -> None:
    for hook in HOOKS.values():
        assert ast.get_docstring(hook), hook.name
        assert all(argument.annotation for argument in hook.args.args), hook.name
