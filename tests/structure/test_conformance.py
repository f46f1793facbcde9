"""Every line of the tester's list has a test of its number, through HTTP, on each store.

The list is the issue's: statuses and headers (1 to 22), history (23, 24), bundles (58 to 66),
`$validate` (67), Binary and the fidelity of what is stored (84 to 86).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.serving import STORES

TESTS = Path(__file__).parents[1]
NUMBERS = (*range(1, 25), *range(58, 68), *range(84, 87))
_EACH = re.compile(r"(?:params=|'backend', )(?:list\()?(?:BACKENDS|STORES)\b")
_NAME = re.compile(r"test_c([0-9]{2})_")


def numbered(text: str) -> Iterator[int]:
    """The numbers of the tests in a file that run on a server over every store."""
    tree = ast.parse(text)
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    own = {node.name for node in functions if _EACH.search(_decorators(node))}
    elsewhere = {"server", "secured"} - {node.name for node in functions}
    for node in functions:
        match = _NAME.match(node.name)
        if match is None:
            continue
        arguments = {argument.arg for argument in node.args.args}
        each = _EACH.search(_decorators(node)) is not None
        if arguments & (own | elsewhere) or ("backend" in arguments and each):
            yield int(match[1])


def _decorators(node: ast.FunctionDef) -> str:
    return " ".join(ast.unparse(decorator) for decorator in node.decorator_list)


def found() -> set[int]:
    files = [
        *(TESTS / "conformance").glob("test_*.py"),
        *(TESTS / "interactions").glob("test_*.py"),
    ]
    return {n for path in files for n in numbered(path.read_text(encoding="utf-8"))}


def test_every_line_has_its_test() -> None:
    assert set(NUMBERS) - found() == set()


def test_fixtures_run_on_every_store() -> None:
    for folder in ("conformance", "interactions"):
        text = (TESTS / folder / "conftest.py").read_text(encoding="utf-8")
        tree = ast.parse(text)
        fixtures = {
            node.name: _decorators(node) for node in tree.body if isinstance(node, ast.FunctionDef)
        }
        for name in ("server", "secured"):
            assert _EACH.search(fixtures[name]), (folder, name)
    serving = (TESTS / "serving.py").read_text(encoding="utf-8")
    assert '"memory,sqlite"' in serving and {"memory", "sqlite"} <= set(STORES)


def test_it_can_fail() -> None:
    both = "def test_c01_x(server): ...\n"
    assert list(numbered(both)) == [1]
    assert list(numbered("def test_c01_x(tmp_path): ...\n")) == []
    assert list(numbered("@pytest.fixture\ndef server(): ...\n" + both)) == []
    assert list(numbered("@parametrize('backend', ['memory'])\ndef test_c01_x(backend): ...")) == []
    assert list(numbered("def test_1_x(server): ...\n")) == []
