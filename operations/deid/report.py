"""What was done to the data, in a Parameters resource: rules, element paths, counts.

Paths are element paths of the definitions, without indices and without values: the report
says nothing about a patient that the resources beside it do not say.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from fhir_server.definitions import guide
from fhir_server.model.exchange import Json
from operations.deid.profile import Profile, Rule
from operations.deid.run import Tally

_TOUCHED = ("removed", "changed")
_DEFAULT = "(no rule)"


def report(profile: Profile, tally: Tally, resources: int, review: bool) -> Json:
    """``review``: each path with what happened to its values, kept ones too, and each reason."""
    by_rule: dict[int | None, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for path, touch, count in tally.lines():
        by_rule[touch.rule][path][touch.what] += count
    order: list[int | None] = [*range(len(profile.rules)), None]
    default = Rule(_DEFAULT, profile.default, why="what no rule names")
    lines = [
        _line(default if n is None else profile.rules[n], by_rule[n], review)
        for n in order
        if n in by_rule
    ]
    return {
        "resourceType": "Parameters",
        "meta": guide.profile("deidentification-report"),
        "parameter": [
            {"name": "profile", "valueCode": profile.code},
            {"name": "canonical", "valueCanonical": profile.canonical},
            {"name": "version", "valueString": profile.version},
            {"name": "mode", "valueCode": "review" if review else "apply"},
            {"name": "resources", "valueInteger": resources},
            *(line for line in lines if line),
        ],
    }


def _line(rule: Rule, paths: dict[str, Counter[str]], review: bool) -> Json | None:
    """One rule with its paths; None if it touched nothing and this is no review."""
    total = sum(counts[what] for counts in paths.values() for what in _TOUCHED)
    if not total and not review:
        return None
    parts: list[Json] = [
        {"name": "path", "valueString": rule.path},
        {"name": "method", "valueCode": rule.method},
        {"name": "count", "valueInteger": total},
    ]
    if review and rule.why:
        parts.append({"name": "why", "valueString": rule.why})
    for path, counts in sorted(paths.items()):
        touched = sum(counts[what] for what in _TOUCHED)
        if review:
            detail = [{"name": what, "valueInteger": n} for what, n in sorted(counts.items())]
        elif touched:
            detail = [{"name": "count", "valueInteger": touched}]
        else:
            continue
        parts.append({"name": "touched", "part": [{"name": "path", "valueString": path}, *detail]})
    return {"name": "rule", "part": parts}
