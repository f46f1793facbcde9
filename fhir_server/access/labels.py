"""Security labels: what a resource is marked with, and what its contents make of it.

The index ``LABEL`` bears them: the sensitivities (v3-ActCode), and the confidentiality where it
is not normal. Labels that a resource bears itself count, and those that the rules of
``sensitivity.toml`` find in its codes and words; what it inherits is added when it is written
(``inheriting.py``). The stored bytes are not changed, so new rules need a reindex and no version.

https://hl7.org/fhir/R4/security-labels.html
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from fhir_server.access.consent.codes import (
    CONFIDENTIALITY,
    LEVELS,
    NORMAL,
    REASONS,
    RESTRICTED,
    SENSITIVE,
    SENSITIVITY,
    Code,
    level,
)
from fhir_server.access.ties import PROVENANCE, tie
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Unavailable
from fhir_server.search.parameters.reference import target
from fhir_server.search.values import IndexValues, ReferenceValue, TokenValue, fold

LABEL: Final = "_label"
"""The index of the labels. Not a search parameter."""

_HARMLESS: Final = frozenset({REASONS, "http://terminology.hl7.org/CodeSystem/v3-ObservationValue"})
"""Systems whose labels say nothing of sensitivity: purposes, integrity, how data was altered."""
_POLICIES: Final = frozenset(
    {"42CFRPart2", "ANONY", "AOD", "AUDIT", "AUDTR", "AUTHPOL", "CPLYPOL", "DEID", "DELAU"}
    | {"ENCRYPT", "HUAPRV", "LIMIT", "MASK", "MINEC", "NOAUTH", "NOCOLLECT", "NODSCLCD"}
    | {"NODSCLCDS", "NOINTEGRATE", "NOLIST", "NOMOU", "NOORGPOL", "NOPAT", "NOPERSISTP"}
    | {"NORDSCLCD", "NORDSCLCDS", "NORDSLCD", "NOREUSE", "PERSISTLABEL", "PRIVMARK", "PSEUD"}
    | {"REDACT", "SYNTAC", "TREBLIND", "UNCERTAIN", "UNMASK", "VALIDATE"}
)
"""Obligations, refrain policies and privacy laws of v3-ActCode: no sensitivities."""


def own_labels(resource: Json) -> frozenset[Code]:
    """The labels in ``meta.security``, with their meaning for access."""
    found = set()
    for coding in resource.get("meta", {}).get("security", ()):
        system, code = coding.get("system") or "", coding.get("code") or ""
        if system in _HARMLESS or (system == SENSITIVITY and code in _POLICIES):
            continue
        if (system == SENSITIVITY and code in SENSITIVE) or (
            system == CONFIDENTIALITY and code in LEVELS
        ):
            found.add(Code(system, code))
        else:
            found.add(Code(CONFIDENTIALITY, RESTRICTED))
    return frozenset(found)


def effective(labels: Iterable[Code]) -> frozenset[Code]:
    """The sensitivities, and the one confidentiality if it is not normal."""
    labels = tuple(labels)
    kept = {label for label in labels if label.system == SENSITIVITY}
    found = level(labels)
    return frozenset(kept if found == NORMAL else {*kept, Code(CONFIDENTIALITY, found)})


def tokens(labels: Iterable[Code]) -> list[TokenValue]:
    """The index values of labels."""
    return [TokenValue(LABEL, *label) for label in sorted(effective(labels))]


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """The rules of one label. ``codes``: by system; ``words``: beginnings of words."""

    code: str
    codes: Mapping[str, tuple[str, ...]]
    words: tuple[str, ...] = ()
    basis: str = ""


class Labelling:
    """Finds the labels of a resource by what is in it."""

    def __init__(self, rules: Iterable[Sensitivity]) -> None:
        self._exact: dict[tuple[str, str], set[str]] = {}
        self._beginnings: dict[str, list[tuple[str, str]]] = {}
        words: dict[str, set[str]] = {}
        for rule in rules:
            for system, codes in rule.codes.items():
                for code in codes:
                    if code.endswith("*"):
                        self._beginnings.setdefault(system, []).append((code[:-1], rule.code))
                    else:
                        self._exact.setdefault((system, code), set()).add(rule.code)
            for word in rule.words:
                words.setdefault(fold(word), set()).add(rule.code)
        self._words = words
        joined = "|".join(map(_beginning, sorted(words, key=len, reverse=True)))
        self._pattern = re.compile(rf"(?<!\w)(?:{joined})") if joined else None
        self._of_code = lru_cache(REMEMBERED)(self._coded)
        self._of_text = lru_cache(REMEMBERED)(self._written)

    def __call__(self, resource: Json) -> list[TokenValue]:
        """The index values of its labels: those it bears, and those its contents make."""
        found = {Code(SENSITIVITY, code) for code in self._found(resource)}
        if "security" in resource.get("meta", ()):
            found |= own_labels(resource)
        return tokens(found) if found else []

    def _found(self, resource: Json) -> set[str]:
        found: set[str] = set()
        of_code, of_text = self._of_code, self._of_text
        stack: list[Any] = [resource]
        if "contained" in resource:
            stack = [{name: child for name, child in resource.items() if name != "contained"}]
        while stack:
            node = stack.pop()
            if "reference" in node:
                continue  # what it says of another resource is told by the labels of that
            for name, child in node.items():
                kind = type(child)
                if kind is dict:
                    stack.append(child)
                elif kind is list:
                    stack += [item for item in child if type(item) is dict]
                elif name in _WRITTEN and kind is str:
                    found |= of_text(child) if len(child) <= SHORT else self._written(child)
                elif name == "code" and kind is str and "system" in node:
                    found |= of_code(node["system"], child)
        return found

    def _coded(self, system: str, code: str) -> frozenset[str]:
        """The labels of a code."""
        begun = {
            label for start, label in self._beginnings.get(system, ()) if code.startswith(start)
        }
        return frozenset(begun | self._exact.get((system, code), set()))

    def _written(self, text: str) -> frozenset[str]:
        """The labels of what is written in words."""
        if self._pattern is None:
            return frozenset()
        hits = self._pattern.findall(fold(text))
        return frozenset(label for hit in hits for label in self._words[hit])


def _beginning(word: str) -> str:
    """A short word is the whole one: "hiv" does not begin "hive"."""
    return re.escape(word) + (r"(?!\w)" if len(word) <= WHOLE else "")


WHOLE: Final = 4
"""Letters of a word that does not stand for those that begin with it."""
SHORT: Final = 120
"""Characters of a text that is worth remembering: many resources say the same."""
REMEMBERED: Final = 16_384
_WRITTEN: Final = frozenset({"text", "display", "description", "title", "conclusion", "name"})
"""Elements whose words say what a resource is about."""


def shipped_rules() -> tuple[Sensitivity, ...]:
    """The rules of ``sensitivity.toml``."""
    return parse_rules((files(__package__) / "sensitivity.toml").read_text(encoding="utf-8"))


def sensitivity_rules(further: Path | None) -> tuple[Sensitivity, ...]:
    """The shipped rules, and those of a domain's own file. Unavailable for one that is none."""
    try:
        own = parse_rules(further.read_text(encoding="utf-8")) if further is not None else ()
    except (OSError, ValueError) as error:
        raise Unavailable(f"the rules of sensitivity in {further}: {error}") from None
    return (*shipped_rules(), *own)


def digest_of(rules: Iterable[Sensitivity]) -> str:
    """Names a set of rules: what was labelled by others is labelled anew."""
    told = [(r.code, sorted((s, *c) for s, c in r.codes.items()), r.words) for r in rules]
    return sha256(repr(told).encode()).hexdigest()


def parse_rules(text: str) -> tuple[Sensitivity, ...]:
    """Rules of a file in the form of ``sensitivity.toml``. Raises ValueError for a bad one."""
    rules = []
    for code, body in tomllib.loads(text).get("label", {}).items():
        if code not in SENSITIVE:
            raise ValueError(f"{code!r} is not a sensitivity of v3-ActCode that is known here")
        codes = {system: tuple(found) for system, found in body.get("codes", {}).items()}
        rules.append(Sensitivity(code, codes, tuple(body.get("words", ())), body.get("basis", "")))
    return tuple(rules)


Label = Callable[[Json], list[TokenValue]]
"""The index values of the labels of one resource, not of what it contains."""
Extract = Callable[[Json], IndexValues]


def labelled(extract: Extract, label: Label, base: str = "") -> Extract:
    """Index values with labels, and with what labels are inherited from; contained resources have
    their own. ``base``: URL of the record.
    """

    def extract_labelled(resource: Json) -> IndexValues:
        values = extract(resource)
        values.tokens += label(resource)
        if resource["resourceType"] in DERIVED:
            values.references += _derived(resource, base)
        if resource["resourceType"] == PROVENANCE:
            tie(resource, values)
        for inner, found in zip(resource.get("contained", ()), values.contained, strict=False):
            found.values.tokens.extend(label(inner))
            found.values.patients = found.values.patients or values.patients
        if len(values.patients) > 1:
            values.tokens.append(SHARED)
        return values

    return extract_labelled


def _derived(resource: Json, base: str) -> list[ReferenceValue]:
    details = [one for one in resource.get("extension", ()) if one.get("url") == DETAIL]
    named = [*resource.get("basis", ()), *(one.get("valueReference", {}) for one in details)]
    found = (target(one["reference"], base) for one in named if "reference" in one)
    return [ReferenceValue(DERIVATION, *one) for one in found if one.type]


DERIVATION: Final = "_derived"
"""The index of what a resource was derived from where no search parameter says it."""
DERIVED: Final = frozenset({"Flag", "RiskAssessment"})
DETAIL: Final = "http://hl7.org/fhir/StructureDefinition/flag-detail"
SHARED: Final = TokenValue("_shared", "", "true")
"""Of what is in the compartments of several patients: all of them must permit it."""
