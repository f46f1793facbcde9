"""De-identification profiles: data files of ordered rules.

The shape is that of the FHIR configuration files of Microsoft's Tools for Health Data
Anonymization (``fhirPathRules``, ``parameters``), with an identity, labels and a stated
default added: a profile says what stays, everything that no rule names is removed.

A file without a ``url`` is one of that tool, and means what it means there: what no rule names
stays, a rule whose path finds nothing does nothing. The linter tells both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from operations.deid.cohort.declared import Declared, declared

FOLDER = Path(__file__).parent / "profiles"

_RULE_FIELDS = frozenset(("path", "method", "why"))
_DEFAULTS = ("redact", "keep")
_ERRORS = ("raise", "skip")
"""What may be asked for; a rule that fails always yields no data at all."""

_SYSTEM: Final = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue"
_WORDS: Final = {
    "REDACTED": "redacted",
    "MASKED": "masked",
    "PSEUDED": "pseudonymized",
    "ABSTRED": "abstracted",
}
_DONE: Final = (
    ("redact", "REDACTED"),
    ("mask", "MASKED"),
    ("encrypt", "MASKED"),
    ("cryptohash", "PSEUDED"),
    ("pseudonym", "PSEUDED"),
    ("dateshift", "ABSTRED"),
    ("perturb", "ABSTRED"),
    ("generalize", "ABSTRED"),
    ("generalise", "ABSTRED"),
)
"""Method -> the label of a resource that it was applied to."""


class ProfileError(ValueError):
    """A profile that does not load. ``findings``: every reason, in the order of the rules."""

    def __init__(self, name: str, findings: list[str]) -> None:
        self.findings = findings
        super().__init__(f"profile {name} does not load: " + "; ".join(findings))


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: what to do (``method`` with ``params``) with the nodes of ``path``, and why."""

    path: str
    method: str
    params: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""


@dataclass(frozen=True, slots=True)
class Label:
    """A security label: one Coding of ``meta.security``."""

    system: str
    code: str
    display: str = ""

    def to_json(self) -> dict[str, str]:
        coding = {"system": self.system, "code": self.code}
        return coding | {"display": self.display} if self.display else coding


@dataclass(frozen=True, slots=True)
class Profile:
    """A named, versioned list of rules; the first that matches a node or a node above it wins.

    ``default``: what happens to values that no rule matches, ``redact`` unless the file says
    ``keep``. ``parameters``: shared by the rules (``restrictedZipCodeTabulationAreas``, ...).
    ``foreign``: a file of Microsoft's tool. ``cohort``: what is asked of sets of patients.
    """

    code: str
    url: str
    version: str
    title: str
    default: str
    labels: tuple[Label, ...]
    rules: tuple[Rule, ...]
    parameters: Mapping[str, Any]
    foreign: bool = False
    cohort: Declared | None = None

    @property
    def canonical(self) -> str:
        return f"{self.url}|{self.version}"

    def named(self, name: str) -> bool:
        """Is ``name`` this profile's code or canonical (with or without version)?"""
        return name in (self.code, self.url, self.canonical)


def read(path: Path, code: str = "") -> Profile:
    """The profile of one file; ``code``: its name, if that of the file is another. Raises
    ProfileError."""
    return parse(code or path.stem, opened(code or path.stem, path.read_bytes()))


def opened(code: str, body: bytes) -> Any:
    """The JSON document of a file. Raises ProfileError."""
    try:
        return json.loads(body.decode(), parse_float=Decimal)
    except (RecursionError, ValueError):
        raise ProfileError(code, ["not JSON"]) from None


def parse(code: str, document: Any) -> Profile:
    """The profile of a JSON document; ``code`` is its short name. Raises ProfileError."""
    findings: list[str] = []
    if not isinstance(document, dict) or not isinstance(document.get("fhirPathRules"), list):
        raise ProfileError(code, ["fhirPathRules is missing"])
    foreign = "url" not in document
    if (document.get("fhirVersion") or "R4") not in ("R4", "4.0.1"):
        findings.append("fhirVersion: only R4")
    if str(document.get("processingErrors") or "raise").lower() not in _ERRORS:
        findings.append(f"processingErrors: one of {', '.join(_ERRORS)}")
    default = document.get("default", "keep" if foreign else "redact")
    if default not in _DEFAULTS:
        findings.append(f"default: one of {', '.join(_DEFAULTS)}")
    rules = [_rule(i, entry, findings) for i, entry in enumerate(document["fhirPathRules"])]
    labels = _labels(document.get("labels"), rules, findings)
    parameters = document.get("parameters") or {}
    if not isinstance(parameters, dict):
        findings.append("parameters: an object")
    cohort = declared(document.get("cohort"), findings)
    if findings:
        raise ProfileError(code, findings)
    return Profile(
        code=code,
        url=str(document.get("url", f"urn:uuid:{code}")),
        version=str(document.get("version", "0")),
        title=str(document.get("title", code)),
        default=default,
        labels=labels,
        rules=tuple(rules),
        parameters=dict(parameters),
        foreign=foreign,
        cohort=cohort,
    )


def _labels(given: Any, rules: list[Rule], findings: list[str]) -> tuple[Label, ...]:
    """Those of the file; else what its methods do, in the codes of v3-ObservationValue."""
    if given is None:
        methods = {rule.method.lower() for rule in rules}
        found = dict.fromkeys(code for method, code in _DONE if method in methods)
        return tuple(Label(_SYSTEM, code, _WORDS[code]) for code in found)
    if not isinstance(given, list) or not all(
        isinstance(one, dict) and {"system", "code"} <= one.keys() for one in given
    ):
        findings.append("labels: a list of system, code, display")
        return ()
    return tuple(Label(one["system"], one["code"], one.get("display", "")) for one in given)


def _rule(index: int, entry: Any, findings: list[str]) -> Rule:
    if (
        not isinstance(entry, dict)
        or not isinstance(entry.get("path"), str)
        or not isinstance(entry.get("method"), str)
    ):
        findings.append(f"rule {index}: path and method are required strings")
        return Rule("", "")
    params = {name: value for name, value in entry.items() if name not in _RULE_FIELDS}
    return Rule(entry["path"], entry["method"], params, str(entry.get("why", "")))
