"""A new plan node must be answered by every store: it fails the type check and at run."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fhir_server.search.plan import All, Not, Scan, Search
from tests.store.building import Bench

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Resembles:
    """Not a predicate that any store knows."""

    param: str


@pytest.mark.parametrize("wrap", [lambda n: n, Not, lambda n: All((n,))])
def test_an_unknown_node_is_never_ignored(backend: Bench, wrap: Any) -> None:
    backend.put("A/1")
    with pytest.raises(AssertionError, match="Resembles"):
        backend.page(Search((Scan("A", wrap(Resembles("p"))),)))


@pytest.mark.slow
def test_a_new_node_fails_the_type_check(tmp_path: Path) -> None:
    """mypy on a copy in which the plan has one more leaf names every store."""
    for path in (ROOT / "fhir_server").rglob("*.py"):
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    place = tmp_path / "fhir_server" / "search" / "plan.py"
    text = place.read_text(encoding="utf-8")
    node = "@dataclass(frozen=True, slots=True)\nclass Resembles:\n    param: str\n\n\n"
    grown = text.replace("    | Dated\n)", "    | Dated\n    | Resembles\n)")
    assert grown != text
    place.write_text(grown.replace("Leaf: TypeAlias", node + "Leaf: TypeAlias"), encoding="utf-8")
    settings = ["--config-file", str(ROOT / "pyproject.toml"), "fhir_server/store"]
    found = subprocess.run(
        [sys.executable, "-m", "mypy", *settings], cwd=tmp_path, capture_output=True, text=True
    )
    for store in ("memory.py", "sqlite/view.py", "sqlite/probes.py", "elastic/queries.py"):
        assert f"fhir_server/store/{store}" in found.stdout, found.stdout
