"""Templates of Consents as rows of ``templates.toml``, and the Consent that one comes to.

https://hl7.org/fhir/R4/consent.html as IHE PCF uses it (https://profiles.ihe.net/ITI/PCF/).
"""

from __future__ import annotations

import hashlib
import tomllib
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Any, Final

from fhir_server.access.consent.codes import (
    CONFIDENTIALITY,
    LEVELS,
    PARTICIPATION,
    REASONS,
    SCOPES,
    SENSITIVITY,
)
from fhir_server.definitions.guide import profile
from fhir_server.model.exchange import Json

from .words import LANGUAGES, Words

TAG: Final = "urn:vehr:consent-template"
"""System of the tag that says from which template a Consent is."""
PCF: Final = "https://profiles.ihe.net/ITI/PCF/Policy-"
PRIVACY: Final = {"system": "http://loinc.org", "code": "59284-0", "display": "Consent Document"}
USUAL: Final = ("TREAT", "HPAYMT", "HOPERAT")
WITH_ALL: Final = frozenset({"Encounter", "EpisodeOfCare"})
"""Types that are hidden with all that was recorded in them."""


@dataclass(frozen=True, slots=True)
class Text:
    """In one language. ``warning``: what it means for care; empty if it takes nothing away."""

    title: str
    text: str
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """What was given for a template. ``actors``: References with display; ``labels``: codes;
    ``data``: ``Type/id``; ``period``: of the data; ``until``: date, empty without one."""

    actors: tuple[Json, ...] = ()
    labels: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    period: Mapping[str, str] | None = None
    until: str = ""


@dataclass(frozen=True, slots=True)
class Template:
    """One row; see the head of ``templates.toml``."""

    code: str
    version: int
    scope: str
    root: str
    rules: tuple[Mapping[str, Any], ...]
    takes: Mapping[str, int]
    actors: tuple[str, ...]
    group: str
    restricts: bool
    texts: Mapping[str, Text]

    @property
    def name(self) -> str:
        return f"{self.code}|{self.version}"

    def provision(self, choice: Choice, implicit: str) -> Json:
        """The rules. ``implicit``: what holds in the domain without a Consent."""
        rules = [_rule(rule, choice) for rule in self.rules]
        root: Json = {}
        if self.root == "rule":
            root = rules.pop(0)
        elif self.root == "implicit":
            root = _restated(implicit)
        if choice.until:
            root = {**root, "period": {"end": choice.until}}
        return {**root, **({"provision": rules} if rules else {})}


def _restated(implicit: str) -> Json:
    """A domain that permits nothing without a Consent has nothing to say again: then only nested
    rules speak."""
    normal = [{"system": CONFIDENTIALITY, "code": "N"}]
    if implicit == "all-normal":
        return {"type": "permit", "securityLabel": normal}
    if implicit == "basic-normal":
        return {"type": "permit", "purpose": _purposes(USUAL), "securityLabel": normal}
    return {}


def _rule(rule: Mapping[str, Any], choice: Choice) -> Json:
    found: Json = {"type": rule["type"]}
    if "actor" in rule and choice.actors:
        role = {"coding": [{"system": PARTICIPATION, "code": "IRCP"}]}
        found["actor"] = [{"role": role, "reference": actor} for actor in choice.actors]
    if "label" in rule:
        codes = choice.labels if rule["label"] == "$label" else rule["label"]
        found["securityLabel"] = [label(code) for code in codes]
    if "purpose" in rule:
        found["purpose"] = _purposes(rule["purpose"])
    if "dataPeriod" in rule and choice.period:
        found["dataPeriod"] = dict(choice.period)
    if "data" in rule:
        found["data"] = [_datum(reference) for reference in choice.data]
    return found


def label(code: str) -> Json:
    """A security label by its code alone."""
    system = CONFIDENTIALITY if code in LEVELS else SENSITIVITY
    return {"system": system, "code": code}


def _purposes(codes: Iterable[str]) -> list[Json]:
    return [{"system": REASONS, "code": code} for code in codes]


def _datum(reference: str) -> Json:
    meaning = "dependents" if reference.partition("/")[0] in WITH_ALL else "instance"
    return {"meaning": meaning, "reference": {"reference": reference}}


@dataclass(frozen=True, slots=True)
class Act:
    """Whose decision, by whom and when. ``performer``: a Reference. ``organization``: the name
    of the custodian. ``moment``: an instant. ``implicit``: see ``Template.provision``."""

    patient: str
    performer: Json
    organization: str
    moment: str
    implicit: str


def consent(template: Template, choice: Choice, act: Act, words: Words) -> Json:
    """The Consent, with what was shown to who gave it as its source and its narrative."""
    lines = said(template, choice, words)
    shown = "\n".join(lines).encode()
    source = {
        "contentType": "text/plain; charset=utf-8",
        "language": words.language,
        "data": b64encode(shown).decode(),
        "hash": b64encode(hashlib.sha1(shown, usedforsecurity=False).digest()).decode(),
        "title": lines[0],
        "creation": act.moment,
    }
    return {
        "resourceType": "Consent",
        "meta": profile("template-consent") | {"tag": tags(template)},
        "language": words.language,
        "text": narrative(lines),
        "status": "active",
        "scope": {"coding": [{"system": SCOPES, "code": template.scope}]},
        "category": [{"coding": [PRIVACY]}],
        "patient": {"reference": f"Patient/{act.patient}"},
        "dateTime": act.moment,
        "performer": [act.performer],
        "organization": [{"display": act.organization}],
        "sourceAttachment": source,
        "policy": [{"uri": PCF + act.implicit}],
        "provision": template.provision(choice, act.implicit),
    }


def tags(template: Template) -> list[Json]:
    return [{"system": TAG, "code": template.code, "version": str(template.version)}]


def narrative(lines: Iterable[str]) -> Json:
    paragraphs = "".join(f"<p>{escape(line)}</p>" for line in lines)
    div = f'<div xmlns="http://www.w3.org/1999/xhtml">{paragraphs}</div>'
    return {"status": "generated", "div": div}


def said(template: Template, choice: Choice, words: Words) -> list[str]:
    """What the Consent says, line by line."""
    text = template.texts[words.language]
    lines = [text.title, text.text]
    people = [actor.get("display") or actor["reference"] for actor in choice.actors]
    kinds = [words.labels.get(code, code) for code in choice.labels]
    for name, items in (("who", people), ("data", kinds), ("items", choice.data)):
        if items:
            lines.append(f"{words.parts[name]}: {', '.join(items)}")
    if choice.period:
        days = [choice.period.get(name, "…") for name in ("start", "end")]
        lines.append(f"{words.parts['time']}: {' - '.join(days)}")
    if choice.until:
        lines.append(f"{words.parts['until']}: {choice.until}")
    return lines


def template_of(resource: Json) -> str:
    """The code of the template that a Consent is from; empty if it is from none."""
    for tag in resource.get("meta", {}).get("tag", ()):
        if tag.get("system") == TAG:
            return str(tag.get("code", ""))
    return ""


def parse(text: str) -> dict[str, Template]:
    """Templates by code. Raises KeyError or ValueError for a file that is none."""
    found = {}
    for code, row in tomllib.loads(text).items():
        texts = {language: Text(**row[language]) for language in LANGUAGES}
        if row["restricts"] and not all(one.warning for one in texts.values()):
            raise ValueError(f"{code}: what it means for care is not said")
        found[code] = Template(
            code=code,
            version=row["version"],
            scope=row["scope"],
            root=row["root"],
            rules=tuple(row["rule"]),
            takes=row["takes"],
            actors=tuple(row.get("actors", ())),
            group=row.get("group", ""),
            restricts=row["restricts"],
            texts=texts,
        )
    return found


TEMPLATES: Final = parse((files(__package__) / "templates.toml").read_text(encoding="utf-8"))
