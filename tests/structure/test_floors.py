"""Floors: a package imports itself or strictly lower floors, nothing else.

The order is the one in ARCHITECTURE.md. Only ``access`` and the composition root reach the
store.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

FLOORS = [
    {"fhir_server.model"},
    {"fhir_server.formats.json"},
    {"fhir_server.fhirpath"},
    {"fhir_server.definitions"},
    {"fhir_server.formats", "terminology"},
    {"fhir_server.search", "fhir_server.validation"},
    {"fhir_server.store"},
    {"fhir_server.access"},
    {"fhir_server.jobs", "fhir_server.events"},
    {"operations"},
    {"fhir_server.interactions"},
    {"fhir_server.auth", "fhir_server.portal"},
    {"fhir_server.http"},
    {"fhir_server.faces"},
    {"fhir_server.app"},
    {"fhir_server.workers"},
    {"fhir_server.cli"},
]
SETTINGS = {"config", "config_limits", "config_table", "config_values"}
EVERYWHERE = {"fhir_server", *(f"fhir_server.{name}" for name in SETTINGS)}
STORE_READERS = {"fhir_server.access", "fhir_server.app", "fhir_server.store"}


def place(module: str) -> tuple[int, str] | None:
    """The floor of a module and the package that stands on it; the longest name wins."""
    found = [
        (name, height)
        for height, names in enumerate(FLOORS)
        for name in names
        if module == name or module.startswith(name + ".")
    ]
    if not found:
        return None
    name, height = max(found, key=lambda item: len(item[0]))
    return height, name


def modules() -> Iterator[tuple[str, ast.Module]]:
    for package in ("fhir_server", "operations", "terminology"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def violations(name: str, imported: str) -> str | None:
    """Why ``name`` may not import ``imported``; None if it may."""
    here, there = place(name), place(imported)
    if here is None or there is None or name in EVERYWHERE:
        return None
    if here[1] != there[1] and there[0] >= here[0]:
        return f"{name} imports {imported}: not a lower floor"
    if there[1] == "fhir_server.store" and here[1] not in STORE_READERS:
        return f"{name} imports {imported}: only access and app reach the store"
    return None


def test_every_import_goes_down() -> None:
    wrong = {
        problem
        for name, tree in modules()
        for imported in imports(tree)
        if (problem := violations(name, imported)) is not None
    }
    assert not wrong, "\n".join(sorted(wrong))


def test_the_rule_can_fail() -> None:
    assert violations("fhir_server.model.problem", "fhir_server.store.base")
    assert violations("fhir_server.search.parse", "fhir_server.validation.validate")
    assert violations("operations.predict", "fhir_server.store.sqlite")
    assert violations("operations.predict", "fhir_server.access.session") is None
