"""QuestionnaireResponses against their Questionnaires.

https://hl7.org/fhir/R4/questionnaireresponse.html#notes: linkIds, types, required and repeated
items, enableWhen, options. A response that is in progress need not be complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from fhir_server.fhirpath import Node
from fhir_server.model.exchange import Json

from .bindings import member
from .judging import Judging, Membership
from .surroundings import below
from .values import has

TYPE: Final = "QuestionnaireResponse"
ANSWERS: Final = {
    "boolean": "Boolean",
    "decimal": "Decimal",
    "integer": "Integer",
    "date": "Date",
    "dateTime": "DateTime",
    "time": "Time",
    "string": "String",
    "text": "String",
    "url": "Uri",
    "choice": "Coding",
    "open-choice": "Coding",
    "attachment": "Attachment",
    "reference": "Reference",
    "quantity": "Quantity",
}
"""https://hl7.org/fhir/R4/valueset-item-type.html: the type of an answer."""
OPTIONS: Final = frozenset({"choice", "open-choice", "integer", "date", "time", "string"})
UNFINISHED: Final = frozenset({"in-progress", "entered-in-error", "stopped"})


@dataclass(frozen=True, slots=True)
class Filled:
    """A response being judged. ``answers``: linkId -> every answer that it has."""

    judging: Judging
    complete: bool
    answers: dict[str, list[Json]]


def judge_response(node: Node, judging: Judging) -> None:
    """Nothing is said where the Questionnaire is not known here, but that it is not."""
    canonical = node.value.get("questionnaire")
    if not isinstance(canonical, str):
        return
    questionnaire = _questionnaire(canonical, node, judging)
    if questionnaire is None:
        if not judging.pending:
            text = f"the questionnaire {canonical[:200]} is not known here: not held against it"
            judging.add(node, "not-found", text, "questionnaire", "warning")
        return
    answers: dict[str, list[Json]] = {}
    _collect(node.value.get("item", ()), answers)
    complete = node.value.get("status") not in UNFINISHED
    _items(questionnaire.get("item", ()), node, Filled(judging, complete, answers))


def _questionnaire(canonical: str, node: Node, judging: Judging) -> Json | None:
    if canonical.startswith("#"):
        found = judging.surroundings.resolve(canonical, node)
        return found.value if found is not None else None
    answer: Json | None = judging.ask("questionnaire", canonical)
    return answer


def _collect(items: Iterable[Json], answers: dict[str, list[Json]]) -> None:
    for item in items:
        given = item.get("answer", ())
        answers.setdefault(item.get("linkId", ""), []).extend(given)
        _collect(item.get("item", ()), answers)
        for one in given:
            _collect(one.get("item", ()), answers)


def _items(asked: Iterable[Json], parent: Node, filled: Filled) -> None:
    """The items of one level: those that are asked, in any number of repetitions."""
    rows = {one.get("linkId"): one for one in asked}
    given: dict[str, list[Node]] = {}
    order, last = list(rows), -1
    for node in below(parent, "item"):
        link = node.value.get("linkId")
        if link not in rows:
            text = f"there is no item {str(link)[:60]!r} here in the questionnaire"
            filled.judging.add(node, "not-found", text, "linkId")
            continue
        if order.index(link) < last:
            filled.judging.add(node, "structure", "the items are not in the questionnaire's order")
        last = max(last, order.index(link))
        given.setdefault(link, []).append(node)
    for link, row in rows.items():
        _item(row, given.get(str(link), []), parent, filled)


def _item(row: Json, nodes: list[Node], parent: Node, filled: Filled) -> None:
    link, judging = row.get("linkId", ""), filled.judging
    if not is_enabled(row, filled.answers):
        for node in nodes:
            if _is_answered(node):
                judging.add(node, "business-rule", f"the item {link!r} is not enabled")
        return
    if row.get("type") == "display":
        for node in nodes:
            if _is_answered(node):
                judging.add(node, "structure", f"the item {link!r} only displays")
        return
    if row.get("required") and filled.complete and not any(_is_answered(n) for n in nodes):
        judging.add(parent, "required", f"the item {link!r} is required", "item")
    group = row.get("type") == "group"
    if len(nodes) > 1 and not (group and row.get("repeats")):
        judging.add(nodes[1], "structure", f"the item {link!r} comes twice")
    for node in nodes:
        if group:
            if below(node, "answer"):
                judging.add(node, "structure", f"the group {link!r} has no answer")
            _items(row.get("item", ()), node, filled)
        else:
            _answered(row, node, filled)


def _is_answered(node: Node) -> bool:
    return bool(below(node, "answer")) or any(_is_answered(one) for one in below(node, "item"))


def _answered(row: Json, node: Node, filled: Filled) -> None:
    answers, judging = below(node, "answer"), filled.judging
    if len(answers) > 1 and not row.get("repeats"):
        text = f"the item {row.get('linkId')!r} has one answer only"
        judging.add(answers[1], "structure", text)
    if below(node, "item"):
        judging.add(node, "structure", "what belongs to a question stands in its answer", "item")
    for answer in answers:
        _value(row, answer, judging)
        _items(row.get("item", ()), answer, filled)


def _value(row: Json, answer: Node, judging: Judging) -> None:
    type_ = row.get("type", "")
    wanted = ANSWERS.get(type_)
    allowed = {wanted, "String"} if type_ == "open-choice" else {wanted}
    if type_ == "choice" and "answerOption" in row:
        allowed = {_kind(option) for option in row["answerOption"]}
    kind = _kind(answer.value)
    if not kind or wanted is None:
        return
    if kind not in allowed:
        said = " or ".join(sorted(str(one) for one in allowed))
        judging.add(answer, "value", f"must be value{said}, not value{kind}", "value")
        return
    [value] = below(answer, "value")
    if "maxLength" in row and isinstance(value.value, str) and len(value.value) > row["maxLength"]:
        judging.add(value, "too-long", f"has more than {row['maxLength']} characters")
    if type_ not in OPTIONS or (type_ == "open-choice" and kind == "String"):
        return
    if "answerOption" in row and not any(_chosen(o, answer.value) for o in row["answerOption"]):
        _not_an_option(value, judging, type_)
    if "answerValueSet" in row:
        codes: Membership | None = judging.ask("value-set", row["answerValueSet"])
        if codes is not None and member(codes, value, judging) is False:
            _not_an_option(value, judging, type_)


def _not_an_option(value: Node, judging: Judging, type_: str) -> None:
    severity = "warning" if type_ == "open-choice" else "error"
    judging.add(value, "code-invalid", "is none of the options", severity=severity)


def _kind(value: Json) -> str:
    """``Coding`` of ``valueCoding``."""
    names = (key.removeprefix("_") for key in value)
    return next((key[5:] for key in names if key.startswith("value") and key != "value"), "")


def _chosen(option: Json, answer: Json) -> bool:
    for key, expected in option.items():
        if key.startswith("value"):
            if isinstance(expected, dict):
                expected = {k: v for k, v in expected.items() if k in ("system", "code")}
            return key in answer and has(answer[key], expected)
    return False


# enableWhen: https://hl7.org/fhir/R4/questionnaire-definitions.html#Questionnaire.item.enableWhen


def is_enabled(row: Json, answers: dict[str, list[Json]]) -> bool:
    """Whether an item is to be answered, by what else is."""
    conditions = row.get("enableWhen", ())
    if not conditions:
        return True
    met = (_is_met(one, answers.get(one.get("question", ""), [])) for one in conditions)
    return all(met) if row.get("enableBehavior") == "all" else any(met)


def _is_met(condition: Json, answers: list[Json]) -> bool:
    operator = condition.get("operator")
    expected = next((v for k, v in condition.items() if k.startswith("answer")), None)
    if operator == "exists":
        return bool(answers) is (expected is True)
    compare = _COMPARE.get(str(operator))
    if compare is None:
        return True
    values = [value for one in answers for value in _values(one)]
    if operator == "!=":
        return all(not _equal(value, expected) for value in values)
    return any(compare(value, expected) for value in values)


def _values(answer: Json) -> Iterator[Any]:
    yield from (value for key, value in answer.items() if key.startswith("value"))


def _equal(value: Any, expected: Any) -> bool:
    if isinstance(value, dict) and isinstance(expected, dict):
        names = ("system", "code") if "code" in expected else tuple(expected)
        return all(value.get(name) == expected.get(name) for name in names)
    return bool(value == expected)


def _ordered(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compare(value: Any, expected: Any) -> bool:
        if isinstance(value, dict) and isinstance(expected, dict):
            if value.get("code") != expected.get("code"):
                return False
            value, expected = value.get("value"), expected.get("value")
        numbers = isinstance(value, int | Decimal) and isinstance(expected, int | Decimal)
        texts = isinstance(value, str) and isinstance(expected, str)
        return (numbers or texts) and test(value, expected)

    return compare


_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": _equal,
    "!=": lambda value, expected: not _equal(value, expected),
    ">": _ordered(lambda a, b: a > b),
    "<": _ordered(lambda a, b: a < b),
    ">=": _ordered(lambda a, b: a >= b),
    "<=": _ordered(lambda a, b: a <= b),
}
