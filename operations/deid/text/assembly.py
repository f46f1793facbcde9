"""The cleaner of free text of a server or a command: its lists, its model, its definitions."""

from __future__ import annotations

import tomllib
from functools import cache
from typing import Final

from fhir_server.definitions.registry import load
from operations.deid.elements import Elements
from operations.deid.text.cleaner import Cleaner
from operations.deid.text.tagging.lexicon import Lexicon
from operations.deid.text.tagging.tagger import FOLDER, Golden, Runner, Tagger, TaggerGraph

CARD: Final = FOLDER / "card.toml"


@cache
def lexicon() -> Lexicon:
    """Read once per process: under one megabyte."""
    return Lexicon.read(FOLDER / "lists")


def text_cleaner(runner: Runner) -> Cleaner:
    """``runner``: ``operations.models.runtime.Runtime``. The graph is loaded and its golden vector
    run when the first text is cleaned."""
    card = tomllib.loads(CARD.read_text("utf-8"))
    tagger = Tagger(
        runner,
        TaggerGraph(f"{card['name']}-{card['version']}", FOLDER / "model.onnx"),
        lexicon(),
        (float(card["thresholds"]["name"]), float(card["thresholds"]["place"])),
        Golden.read(FOLDER / "golden.json"),
    )
    return Cleaner(tagger, lexicon(), Elements(load()))
