"""``vehr deid lint``: what a profile does not do that its author may think it does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from fhir_server.definitions.registry import Definitions
from operations.deid import lint
from operations.deid.compile import Compiler
from operations.deid.elements import Elements
from operations.deid.engine import bind
from operations.deid.paths import parse as parse_path
from operations.deid.paths import rooted
from operations.deid.profile import Profile, ProfileError, parse

KEYS: Final = ("dateShiftKey", "cryptoHashKey", "encryptKey")


@dataclass(frozen=True, slots=True)
class Finding:
    """``error``: the profile does not load. ``dead``: a rule never acts. ``warning``: it may not
    be what was meant."""

    severity: Literal["error", "dead", "warning"]
    text: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.text}"


def findings(code: str, document: Any, definitions: Definitions) -> list[Finding]:
    """All that is found in a profile, the worst first."""
    elements = Elements(definitions)
    try:
        profile = parse(code, document)
        plan = bind(profile, elements)
    except ProfileError as error:
        return [Finding("error", text) for text in error.findings]
    misspelt = dict(_misspelt(profile, elements))
    deciding = Compiler(plan, elements, lambda _: bool, lambda _: None).deciding()
    found = [Finding("dead", f"{_named(profile, n)}: {text}") for n, text in misspelt.items()]
    for number in range(len(profile.rules)):
        if number not in deciding and number not in misspelt:
            text = "earlier rules take everything that it speaks of"
            found.append(Finding("dead", f"{_named(profile, number)}: {text}"))
    return found + [Finding("warning", text) for text in _doubtful(profile, document)]


def _named(profile: Profile, number: int) -> str:
    return f"rule {number} ({profile.rules[number].path})"


def _misspelt(profile: Profile, elements: Elements) -> Iterator[tuple[int, str]]:
    """Rules of a foreign profile that find nothing; of others these are errors."""
    for number, rule in enumerate(profile.rules):
        for path in parse_path(rule.path):
            dead = lint.path(rooted(path, elements.resource_types), elements)
            if dead is not None:
                yield number, dead.text


def _doubtful(profile: Profile, document: Any) -> Iterator[str]:
    if profile.default == "keep":
        yield "what no rule names stays; with a url and no default it would go"
    if str(document.get("processingErrors") or "raise").lower() != "raise":
        yield "processingErrors: a rule that fails yields no data here, whatever is asked for"
    for name in KEYS:
        if profile.parameters.get(name):
            yield f"parameters.{name}: a key in a file can be read by whoever reads the file"
