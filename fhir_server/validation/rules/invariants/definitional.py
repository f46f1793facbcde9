"""Invariants of conformance, terminology, questionnaire and measure resources."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from fhir_server.model.exchange import Json

from .values import Test, count, distinct, every, has, nested

_LIMITED = ("boolean", "decimal", "integer", "string", "text", "url", "open-choice")
_ANSWERABLE = (
    *("choice", "open-choice", "decimal", "integer", "date"),
    *("dateTime", "time", "string", "quantity"),
)


def _kind(kind: str, present: tuple[str, ...] = (), absent: tuple[str, ...] = ()) -> Test:
    """A statement of this kind has all of ``present`` and none of ``absent``."""
    return lambda r: (
        r.get("kind") != kind or (count(r, *present) == len(present) and count(r, *absent) == 0)
    )


def _some_description(resource: Json) -> bool:
    return has(resource, "description", "software", "implementation")


def _codes(system: Json) -> bool:
    return distinct(c.get("code") for c in nested(system, "concept"))


def _link_ids(questionnaire: Json) -> bool:
    return distinct(i["linkId"] for i in nested(questionnaire, "item") if "linkId" in i)


def _items(item: Json) -> bool:
    kind = item.get("type")
    return (kind != "group" or "item" in item) and (kind != "display" or "item" not in item)


def _display_lacks(*names: str) -> Test:
    return lambda item: item.get("type") != "display" or not has(item, *names)


def _one_preferred(system: Json) -> bool:
    preferred = [u for u in every(system, "uniqueId") if u.get("preferred") is True]
    return distinct(u.get("type") for u in preferred)


def _stratifiers(measure: Json) -> bool:
    return all(
        has(s, "code", "description", "criteria") != has(s, "component")
        for s in every(measure, "group", "stratifier")
    )


def _strata(report: Json) -> bool:
    return all(
        has(s, "value") != has(s, "component")
        for s in every(report, "group", "stratifier", "stratum")
    )


def _max(focus: Json) -> bool:
    text = str(focus.get("max", "*"))
    return text == "*" or (text.isascii() and text.isdigit() and text.strip("0") != "")


def _either(*names: str) -> Test:
    """Exactly one of two elements."""
    return lambda element: count(element, *names) == 1


ROWS: Mapping[str, Test] = MappingProxyType(
    {
        "cmd-1": lambda t: has(t, "comment") or t.get("equivalence") not in ("narrower", "inexact"),
        "cmd-2": lambda u: u.get("mode") != "fixed" or has(u, "code"),
        "cmd-3": lambda u: u.get("mode") != "other-map" or has(u, "url"),
        "cpb-1": lambda r: has(r, "rest", "messaging", "document"),
        "cpb-2": _some_description,
        "cpb-3": lambda r: r.get("kind") == "instance" or not every(r, "messaging", "endpoint"),
        "cpb-7": lambda r: distinct(
            (d.get("profile"), d.get("mode")) for d in every(r, "document")
        ),
        "cpb-9": lambda rest: distinct(every(rest, "resource", "type")),
        "cpb-12": lambda resource: distinct(every(resource, "searchParam", "name")),
        "cpb-14": _kind("instance", present=("implementation",)),
        "cpb-15": _kind("capability", present=("software",), absent=("implementation",)),
        "cpb-16": _kind("requirements", absent=("implementation", "software")),
        "csd-1": _codes,
        "eld-1": lambda s: has(s, "discriminator", "description"),
        "mea-1": _stratifiers,
        "mrp-1": lambda r: r.get("type") != "data-collection" or not has(r, "group"),
        "mrp-2": _strata,
        "md-1": _max,
        "nsd-1": lambda r: r.get("kind") != "root" or "uuid" not in every(r, "uniqueId", "type"),
        "nsd-2": _one_preferred,
        "opd-1": lambda p: has(p, "type", "part"),
        "opd-2": lambda p: not has(p, "searchType") or p.get("type") == "string",
        "opd-3": lambda p: (
            not has(p, "targetProfile") or p.get("type") in ("Reference", "canonical")
        ),
        "que-1": _items,
        "que-2": _link_ids,
        "que-3": _display_lacks("code"),
        "que-4": lambda i: not (has(i, "answerOption") and has(i, "answerValueSet")),
        "que-5": lambda i: (
            i.get("type") in _ANSWERABLE or not has(i, "answerOption", "answerValueSet")
        ),
        "que-6": _display_lacks("required", "repeats"),
        "que-7": lambda e: e.get("operator") != "exists" or has(e, "answerBoolean"),
        "que-8": lambda i: i.get("type") not in ("group", "display") or not has(i, "initial"),
        "que-9": _display_lacks("readOnly"),
        "que-10": lambda i: i.get("type") in _LIMITED or not has(i, "maxLength"),
        "que-11": lambda i: not (has(i, "answerOption") and has(i, "initial")),
        "que-12": lambda i: len(i.get("enableWhen", ())) <= 2 or has(i, "enableBehavior"),
        "que-13": lambda i: i.get("repeats") is True or len(i.get("initial", ())) <= 1,
        "sdf-2": lambda m: has(m, "name", "uri"),
        "sdf-4": lambda r: r.get("abstract") is True or has(r, "baseDefinition"),
        "sdf-6": lambda r: has(r, "snapshot", "differential"),
        "spd-1": lambda r: not has(r, "xpath") or has(r, "xpathUsage"),
        "spd-2": lambda r: not has(r, "chain") or r.get("type") == "reference",
        "smp-1": lambda t: not has(t, "element") or has(t, "context"),
        "smp-2": lambda t: not has(t, "context") or has(t, "contextType"),
        "tcp-1": lambda s: (
            len(s.get("version", ())) <= 1 or all(has(v, "code") for v in s["version"])
        ),
        "tcp-2": _some_description,
        "tcp-3": _kind("instance", present=("implementation",)),
        "tcp-4": _kind("capability", present=("software",), absent=("implementation",)),
        "tcp-5": _kind("requirements", absent=("implementation", "software")),
        "tst-1": _either("operation", "assert"),
        "tst-2": _either("operation", "assert"),
        "tst-3": lambda v: count(v, "expression", "headerField", "path") <= 1,
        "tst-4": lambda m: any(has(c, "required", "validated") for c in every(m, "capability")),
        "TestReport.setup.action#inv-1": _either("operation", "assert"),
        "TestReport.test.action#inv-2": _either("operation", "assert"),
        "vsd-1": lambda i: has(i, "valueSet", "system"),
        "vsd-2": lambda i: has(i, "system") or not has(i, "concept", "filter"),
        "vsd-3": lambda i: not (has(i, "concept") and has(i, "filter")),
        "vsd-6": lambda c: has(c, "code", "display"),
        "vsd-9": lambda c: has(c, "code") or c.get("abstract") is True,
        "vsd-10": lambda c: not has(c, "code") or has(c, "system"),
    }
)
