"""Packages of free text: their golden vector is a text, whose words they must tell names in."""

from __future__ import annotations

from functools import cache

from operations.deid.text.tagging.features import tokens
from operations.deid.text.tagging.lexicon import Lexicon
from operations.deid.text.tagging.tagger import FOLDER, OUTPUTS, columns

from .manifest import GoldenText
from .package import ModelPackage
from .runtime import Runtime


@cache
def lexicon() -> Lexicon:
    """Read once per process: under one megabyte."""
    return Lexicon.read(FOLDER / "lists")


async def tagging_fault(runtime: Runtime, package: ModelPackage, golden: GoldenText) -> str:
    """Why the graph does not give what its golden vector expects; "" if it does. Raises
    Unavailable if it cannot be run."""
    document = tokens(golden.text)
    outputs = await runtime.run(package, columns([document], lexicon()))
    missing = set(OUTPUTS) - outputs.keys()
    if missing:
        return f"the graph has no output {min(missing)}"
    if len(golden.names) != len(document):
        return f"golden.json: the text has {len(document)} words, not {len(golden.names)}"
    for row, expected in enumerate(golden.names):
        got = outputs["name"][row]
        if abs(got - expected) > golden.tolerance:
            return f"golden vector: word {row + 1} is a name by {got:.6g}, not {expected}"
    return ""
