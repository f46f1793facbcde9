"""One ``name=value`` of a query, as a predicate: modifiers, chains and ``_has``.

https://hl7.org/fhir/R4/search.html#modifiers, #chaining, #has
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Final, NoReturn

from fhir_server.model.problem import BadRequest
from fhir_server.search.parameters import KINDS, Context, Criterion, Parameter
from fhir_server.search.parameters.date import search_span
from fhir_server.search.parameters.escape import split, unescape
from fhir_server.search.plan import (
    FALSE,
    TRUE,
    All,
    Any,
    Chain,
    Has,
    IdIn,
    Not,
    Predicate,
    Present,
    Scan,
    TextHas,
    UpdatedIs,
)
from fhir_server.search.schema import SearchSchema
from fhir_server.search.textual import parse_text
from fhir_server.search.words import CONTENT, TEXT

_CONTRARY: Final = {"true": "false", "false": "true"}
_ESCAPED: Final = re.compile(r"\\[\\,|$]")
"""https://hl7.org/fhir/R4/search.html#escaping: ``xx\\xx`` is illegal."""
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")


@dataclass(slots=True)
class Budget:
    """How large the plan of one query may still grow: an untyped chain fans out at each hop."""

    left: int = 20_000

    def spend(self, name: str, nodes: int) -> None:
        self.left -= nodes
        if self.left < 0:
            raise BadRequest(f"{name[:100]}: the query is too large", code="too-costly")


class UnknownParameter(Exception):
    """The type has no such parameter; the handling preference decides what that means."""


def _dead_end(why: str, hops: int) -> Exception:
    """A chain that leads nowhere; behind the first hop another target type may lead further."""
    return UnknownParameter(why) if hops else BadRequest(why)


def not_supported(what: str) -> NoReturn:
    raise BadRequest(what, code="not-supported")


@dataclass(frozen=True, slots=True)
class Criteria:
    """Compiles criteria against what can be searched."""

    schema: SearchSchema
    context: Context
    budget: Budget = field(default_factory=Budget)

    def compile(self, type: str, name: str, value: str, hops: int = 0) -> Predicate:
        """The predicate of ``name=value`` on resources of ``type``.

        Raises BadRequest; UnknownParameter if the type has no parameter of that name.
        """
        self.check_hops(name, hops)
        if name.startswith("_has:"):
            return self._has(type, name, value, hops)
        head, dot, rest = name.partition(".")
        code, colon, modifier = head.partition(":")
        if code == "_list":
            return self._listed(name, value)
        if code in (TEXT, CONTENT):
            return self._text(type, code, name, value)
        if colon and not modifier:
            raise BadRequest(f"{name}: the modifier is empty")
        parameter = self.parameter(type, code)
        if dot:
            return self._chain(parameter, modifier, rest, value, name, hops)
        if modifier == "missing":
            return self.present(parameter, name, _CONTRARY.get(value, value))
        return self._matched(parameter, name, modifier, self._alternatives(name, value))

    def check_hops(self, name: str, hops: int) -> None:
        """Refuses a longer chain. ``hops``: so far."""
        most = self.context.limits.hops
        if hops > most:
            what = f"{name[:200]}: more than {most} chained references"
            raise BadRequest(f"{what} (VEHR_MAX_CHAIN)", code="too-costly")

    def _alternatives(self, name: str, value: str) -> tuple[str, ...]:
        if "\\" in value and "\\" in _ESCAPED.sub("", value):
            raise BadRequest(f"{name}: a backslash stands only before one of , | $ \\")
        values = split(value, ",")
        most = self.context.limits.values
        if len(values) > most:
            raise BadRequest(
                f"{name}: more than {most} values (VEHR_MAX_VALUES)", code="too-costly"
            )
        if not all(values):
            raise BadRequest(f"{name}: a value is empty")
        return tuple(values)

    def one(self, parameter: Parameter, name: str, modifier: str, value: str) -> Predicate:
        """A single value, in which a comma means nothing."""
        return self._matched(parameter, name, modifier, (value,))

    def _matched(
        self, parameter: Parameter, name: str, modifier: str, values: tuple[str, ...]
    ) -> Predicate:
        self.budget.spend(name, len(values) * max(len(parameter.targets), 1))
        match parameter.code:
            case "_id":
                return _id(name, modifier, values)
            case "_lastUpdated":
                return _updated(name, modifier, values, self.context)
        self._check_modifier(parameter, name, modifier)
        criterion = Criterion(parameter, parameter.index, name, modifier, values, self.context)
        compile = KINDS[parameter.kind].compile
        if len(parameter.indexes) == 1:
            return compile(criterion)
        parts = tuple(compile(replace(criterion, index=index)) for index in parameter.indexes)
        return All(parts) if modifier in ("not", "not-in") else Any(parts)

    def parameter(self, type: str, code: str) -> Parameter:
        """Raises UnknownParameter, or BadRequest for one that FHIR has and this server not."""
        schema = self.schema.of(type)
        found = schema.parameters.get(code)
        if found is not None:
            return found
        if code in schema.unindexed:
            raise BadRequest(
                f"the search parameter {code!r} of {type} is not completely indexed:"
                f" it can be used after a reindex of {type}",
                code="incomplete",
            )
        if code in schema.unsupported:
            not_supported(f"the search parameter {code!r} of {type} is not supported")
        raise UnknownParameter(f"unknown search parameter {code[:100]!r} of {type}")

    def reference(self, type: str, code: str, name: str) -> Parameter:
        """A parameter whose values lead to resources. Raises BadRequest for another."""
        try:
            parameter = self.parameter(type, code)
        except UnknownParameter as unknown:
            raise BadRequest(f"{name}: {unknown}") from None
        if not parameter.leads:
            raise BadRequest(f"{name}: {code!r} of {type} is not a reference to a resource")
        return parameter

    def known_type(self, type: str, name: str) -> str:
        if type not in self.schema.types:
            raise BadRequest(f"{name}: {type[:64]!r} is not a resource type")
        return type

    def _check_modifier(self, parameter: Parameter, name: str, modifier: str) -> None:
        kind = KINDS[parameter.kind]
        if not modifier or ("[type]" in kind.modifiers and modifier in self.schema.types):
            return
        needed = kind.modifier_types.get(modifier, parameter.types)
        if modifier in kind.modifiers and (not parameter.types or needed & parameter.types):
            return
        not_supported(f"{name}: the modifier ':{modifier[:64]}' is not supported here")

    def present(self, parameter: Parameter, name: str, value: str) -> Predicate:
        """Whether there is a value, or with ``value`` "false" that there is none."""
        if value not in ("true", "false"):
            raise BadRequest(f"{name}: {value[:100]!r} is neither true nor false")
        if parameter.kind == "composite" or parameter.kind == "special":
            not_supported(f"{name}: ':missing' is not supported on {parameter.code!r}")
        if parameter.code in ("_id", "_lastUpdated"):
            present: Predicate = TRUE
        elif parameter.narrowed:
            # The index holds references to other types as well.
            scans = tuple(Scan(t) for t in parameter.targets)
            present = Chain(parameter.index, scans, inside=scans)
        else:
            kind = parameter.kind
            parts = tuple(Present(index, kind, parameter.targets) for index in parameter.indexes)
            if not parameter.types.isdisjoint(("Coding", "CodeableConcept")):
                # One that has only a text, or a display, is there as well.
                parts += tuple(Present(f"{i}:text", "string") for i in parameter.indexes)
            present = parts[0] if len(parts) == 1 else Any(parts)
        if value == "true":
            return present
        return FALSE if present == TRUE else Not(present)

    def _listed(self, name: str, value: str) -> Predicate:
        """``_list``: https://hl7.org/fhir/R4/search.html#list"""
        if name != "_list" or value.startswith("$"):
            not_supported(f"{name}={value[:60]}: only the id of a List is supported")
        lists = _id(name, "", self._alternatives(name, value))
        return Has(Scan("List", lists), self.parameter("List", "item").index)

    def _text(self, type: str, code: str, name: str, value: str) -> Predicate:
        """``_text`` and ``_content``: https://hl7.org/fhir/R4/search.html#text"""
        if name != code:
            not_supported(f"{name}: {code!r} has neither modifiers nor chains")
        if not self.context.bodies:
            not_supported(f"{code!r} cannot be used in a scope")
        self.budget.spend(name, 1 + len(value) // 4)
        # A Bundle, a Binary and a Parameters have no narrative.
        has = code in self.schema.definitions.search_parameters(type)
        return parse_text(
            name, value, lambda words, prefix: TextHas(code, words, prefix) if has else FALSE
        )

    def _chain(
        self, parameter: Parameter, modifier: str, rest: str, value: str, name: str, hops: int
    ) -> Predicate:
        if not parameter.leads:
            raise _dead_end(f"{name}: {parameter.code!r} is not a reference to chain through", hops)
        targets = parameter.targets
        if modifier:
            if modifier not in targets:
                why = f"{name}: {parameter.code!r} does not refer to {modifier[:64]!r}"
                raise _dead_end(why, hops)
            targets = (modifier,)
        self.budget.spend(name, len(targets))
        scans = []
        for target in targets:
            try:
                scans.append(Scan(target, self.compile(target, rest, value, hops + 1)))
            except UnknownParameter:
                continue
        if not scans:
            raise _dead_end(f"{name}: no type that it leads to has {rest[:100]!r}", hops)
        return Chain(parameter.index, tuple(scans), parameter.canonical, tuple(scans))

    def _has(self, type: str, name: str, value: str, hops: int) -> Predicate:
        parts = name.split(":", 3)
        if len(parts) != 4 or not all(parts):
            raise BadRequest(f"{name}: is not _has:[type]:[reference parameter]:[parameter]")
        source = self.known_type(parts[1], name)
        parameter = self.reference(source, parts[2], name)
        if type not in parameter.targets:
            raise BadRequest(f"{name}: {source}.{parts[2]} does not refer to {type}")
        try:
            where = self.compile(source, parts[3], value, hops + 1)
        except UnknownParameter as unknown:
            raise BadRequest(f"{name}: {unknown}") from None
        return Has(Scan(source, where), parameter.index, parameter.canonical)


def _id(name: str, modifier: str, values: tuple[str, ...]) -> Predicate:
    if modifier not in ("", "not"):
        not_supported(f"{name}: the modifier ':{modifier[:64]}' is not supported here")
    ids = tuple(dict.fromkeys(unescape(value) for value in values))
    for id in ids:
        if _ID.fullmatch(id) is None:
            raise BadRequest(f"{name}: {id[:100]!r} is not an id")
    return Not(IdIn(ids)) if modifier else IdIn(ids)


def _updated(name: str, modifier: str, values: tuple[str, ...], context: Context) -> Predicate:
    if modifier:
        not_supported(f"{name}: the modifier ':{modifier[:64]}' is not supported here")
    parts = []
    for value in values:
        try:
            prefix, span = search_span(value, context)
        except ValueError as error:
            raise BadRequest(f"{name}: {value[:100]!r} is not a date: {error}") from None
        parts.append(UpdatedIs(prefix, *span))
    return parts[0] if len(parts) == 1 else Any(tuple(parts))
