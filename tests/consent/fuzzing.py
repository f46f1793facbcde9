"""Requests of a reader from whom something is hidden, made from the search schema (attack L70).

Every parameter of the types in the worlds, with modifiers, prefixes, chains, ``_has``, includes,
sorts and the parameters for all; compartments, histories, operations; every verb that reads, alone
or in a batch. Values are those that occur in the world with everything, so that they would find.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from fhir_server.definitions.registry import load
from fhir_server.search.extract import compile_extract
from fhir_server.search.parameters import KINDS, Parameter
from fhir_server.search.schema import SearchSchema
from fhir_server.search.values import FOLDED, IndexValues
from tests.consent.asking import Asked, answers, shrunk
from tests.consent.bricks import Json, consent
from tests.consent.richer import late_hidden, more_hidden, more_visible
from tests.consent.worlds import Twin, hidden, visible

SCHEMA: Final = SearchSchema(load())
EXTRACT: Final = compile_extract(SCHEMA)


WORLD: Final[tuple[Json, ...]] = (
    *visible(masked=False),
    *more_visible(masked=False),
    *hidden(),
    *more_hidden(),
    *late_hidden(),
    consent(),
)


KEYS: Final = tuple((r["resourceType"], r["id"]) for r in WORLD)
TYPES: Final = tuple(dict.fromkeys([*(t for t, _ in KEYS), "AuditEvent", "Basic"]))
EVERYWHERE: Final = ("_id", "_tag", "_security", "_profile", "_source", "_lastUpdated")
WORDS: Final = ("zolpitest", "viral", "HIV", "Family1", "work", "Clinic", "mmol", "1819", "F11.2")


@dataclass
class Values:
    """What occurs in the world, as a search would say it: (type, index) -> values."""

    found: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for resource in WORLD:
            values = EXTRACT(resource)
            self._take(resource["resourceType"], values)
            for held in values.contained:
                self._take(held.type, held.values)

    def _take(self, type_: str, values: IndexValues) -> None:
        said: list[tuple[str, str]] = [
            *((t.param, f"{t.system}|{t.code}") for t in values.tokens if FOLDED not in t.code),
            *((t.param, t.code) for t in values.tokens if FOLDED not in t.code),
            *((s.param, s.text) for s in values.strings if FOLDED not in s.text),
            *((r.param, f"{r.type}/{r.id}") for r in values.references if r.id),
            *((r.param, r.id) for r in values.references if r.id),
            *((u.param, u.uri) for u in values.uris),
            *((q.param, f"{q.lo:g}") for q in values.quantities),
            *((n.param, f"{n.lo:g}") for n in values.numbers),
        ]
        for index, text in said:
            known = self.found.setdefault((type_, index), [])
            if text not in known:
                known.append(text)


DAYS: Final = ("2024-03", "2024-03-05", "2024-03-06", "2024", "2020-02-01", "1983", "2024-05-01")
NUMBERS: Final = ("1", "4", "5", "6", "9", "77", "0.3", "2")
PREFIXES: Final = ("eq", "ne", "gt", "ge", "lt", "le", "sa", "eb", "ap")


CONTROLS: Final = (
    *("_include", "_revinclude", "_include:iterate", "_revinclude:iterate", "_sort", "_count"),
    *("_total", "_contained", "_containedType", "_shape", "_explain"),
)


HEADERS: Final = (
    ("If-None-Match", 'W/"1"'),
    ("If-Modified-Since", "Sat, 29 Oct 2033 19:43:31 GMT"),
    ("Prefer", "handling=lenient"),
    ("Prefer", "handling=strict"),
    ("Accept", "application/fhir+xml"),
    ("X-Purpose-Of-Use", "ETREAT"),
    ("X-Purpose-Of-Use", "HRESCH"),
)


class Generator:
    """Of one seed; ``rng`` is all that it depends on."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self._values = Values()
        self._kinds: tuple[Callable[[], Asked], ...] = (
            *[self._search] * 12,
            *[self._read] * 3,
            self._history,
            self._compartment,
            *[self._operation] * 2,
            self._batch,
        )

    def __call__(self) -> Asked:
        return self.rng.choice(self._kinds)()

    def _some(self, chance: float) -> bool:
        return self.rng.random() < chance

    def _headers(self) -> tuple[tuple[str, str], ...]:
        return (self.rng.choice(HEADERS),) if self._some(0.1) else ()

    def _read(self) -> Asked:
        type_, id_ = self.rng.choice(KEYS)
        path = f"{type_}/{id_}" + self.rng.choice(["", "", "/_history/1", "/_history", "/$meta"])
        query = (self._shape(),) if self._some(0.4) else ()
        method = "HEAD" if self._some(0.2) else "GET"
        return Asked(path, query, method, headers=self._headers())

    def _shape(self) -> tuple[str, str]:
        name = self.rng.choice(["_elements", "_summary", "_format", "_pretty"])
        values = {
            "_elements": ["result", "id", "subject", "code,subject", "text", "hasMember,focus"],
            "_summary": ["true", "text", "data", "count", "false"],
            "_format": ["xml", "json", "html"],
            "_pretty": ["true", "false"],
        }
        return name, self.rng.choice(values[name])

    def _history(self) -> Asked:
        path = self.rng.choice(["_history", f"{self.rng.choice(TYPES)}/_history"])
        asked = [
            ("_count", self.rng.choice(["1", "3", "50"])),
            ("_since", self.rng.choice(["2020-01-01", "2099-01-01T00:00:00Z"])),
            ("_at", "2020"),
            ("_total", "accurate"),
            ("_list", "l"),
            ("_sort", "-_lastUpdated"),
        ]
        return Asked(path, tuple(self.rng.sample(asked, k=self.rng.choice([0, 1, 1, 2]))))

    def _search(self) -> Asked:
        type_ = self.rng.choice(TYPES)
        query = self._query(type_)
        verb = self.rng.random()
        if verb < 0.1:
            return Asked(f"{type_}/_search", query, "POST", form=True, headers=self._headers())
        if verb < 0.14:
            return Asked("", (("_type", f"{type_},{self.rng.choice(TYPES)}"), *query))
        return Asked(type_, query, "HEAD" if verb < 0.17 else "GET", headers=self._headers())

    def _query(self, type_: str) -> tuple[tuple[str, str], ...]:
        found = [self._criterion(type_) for _ in range(self.rng.choice([0, 1, 1, 1, 2, 2, 3]))]
        if self._some(0.45):
            found.append(self._control(type_))
        if self._some(0.25):
            found.append(self._control(type_))
        return tuple(found)

    def _criterion(self, type_: str, depth: int = 2) -> tuple[str, str]:
        chance = self.rng.random()
        if depth and chance < 0.17:
            return self._has(type_, depth)
        if chance < 0.22:
            return self.rng.choice(["_content", "_text"]), self.rng.choice(WORDS)
        if depth == 2 and chance < 0.25:
            return "_list", self.rng.choice(["l", "u"])
        if depth == 2 and chance < 0.3:
            return "_filter", self._filter(type_)
        parameter = self._parameter(type_)
        if depth and parameter.leads and not parameter.canonical and self._some(0.5):
            return self._chain(parameter, depth)
        return self._plain(type_, parameter)

    def _parameter(self, type_: str) -> Parameter:
        """Mostly one of which the world has values."""
        parameters = SCHEMA.of(type_).parameters
        known = [
            p
            for p in parameters.values()
            if any((type_, i) in self._values.found for i in p.indexes)
        ]
        chosen = known if known and self._some(0.8) else list(parameters.values())
        return self.rng.choice(chosen)

    def _plain(self, type_: str, parameter: Parameter) -> tuple[str, str]:
        kind, name = KINDS[parameter.kind], parameter.code
        if self._some(0.12):
            return f"{name}:missing", self.rng.choice(["true", "false"])
        modifiers = [m for m in kind.modifiers if m != "[type]"] + list(parameter.targets)[:3]
        modifier = f":{self.rng.choice(modifiers)}" if modifiers and self._some(0.25) else ""
        values = [self._value(type_, parameter) for _ in range(self.rng.choice([1, 1, 1, 2]))]
        if modifier == ":identifier":
            named = f"{parameter.index}:identifier"
            values = [self._of(self._values.found.get((type_, named), ["n-h2"]))]
        return f"{name}{modifier}", ",".join(values)

    def _value(self, type_: str, parameter: Parameter) -> str:
        if parameter.code == "_id":
            return self.rng.choice([id_ for t, id_ in KEYS if t == type_] or ["u"])
        if parameter.kind == "composite":
            return "$".join(
                self._part(type_, part.outer or part.inner) for part in parameter.components
            )
        return self._part(type_, parameter)

    def _part(self, type_: str, parameter: Parameter | None) -> str:
        if parameter is None:
            return "x"
        known = [v for i in parameter.indexes for v in self._values.found.get((type_, i), ())]
        prefix = self.rng.choice(PREFIXES) if self._some(0.5) else ""
        match parameter.kind:
            case "date":
                return prefix + ("2020" if parameter.code == "_lastUpdated" else self._of(DAYS))
            case "number" | "quantity":
                return prefix + self.rng.choice(known or NUMBERS)
            case "reference" if not known or self._some(0.2):
                return "/".join(self.rng.choice(KEYS))
            case "string" if known and self._some(0.3):
                return self.rng.choice(known)[:3]
        return self.rng.choice(known or WORDS).replace(",", "\\,").replace("$", "\\$")

    def _of(self, values: Iterable[str]) -> str:
        return self.rng.choice(list(values))

    def _chain(self, parameter: Parameter, depth: int) -> tuple[str, str]:
        known = [t for t in parameter.targets if t in TYPES]
        target = self.rng.choice(known or list(parameter.targets))
        name, value = self._criterion(target, depth - 1)
        typed = f":{target}" if len(parameter.targets) > 1 or self._some(0.2) else ""
        return f"{parameter.code}{typed}.{name}", value

    def _has(self, type_: str, depth: int) -> tuple[str, str]:
        sources = [s for s in SCHEMA.revincludes[type_] if s.partition(":")[0] in TYPES]
        if not sources:
            return "_id", "u"
        source, _, code = self.rng.choice(sources).partition(":")
        name, value = self._criterion(source, depth - 1)
        return f"_has:{source}:{code}:{name}", value

    def _filter(self, type_: str) -> str:
        parameter = self._parameter(type_)
        value = self._value(type_, parameter).replace('"', "")
        quoted = f'"{value}"' if parameter.kind in ("string", "uri") else value
        operation = self._of(["eq", "ne", "co", "sw", "gt", "lt", "pr", "in", "re"])
        test = f"{parameter.code} {operation} {'true' if operation == 'pr' else quoted}"
        return f"not ({test})" if self._some(0.2) else test

    def _control(self, type_: str) -> tuple[str, str]:
        parameters = list(SCHEMA.of(type_).parameters)
        name = self._of(CONTROLS)
        match name:
            case "_shape":
                return self._shape()
            case "_include" | "_include:iterate":
                return name, self._of(["*", *SCHEMA.includes(type_)])
            case "_revinclude" | "_revinclude:iterate":
                known = [s for s in SCHEMA.revincludes[type_] if s.partition(":")[0] in TYPES]
                return name, self._of(["*", *known])
            case "_sort":
                sign = self._of(["", "-"])
                return name, sign + self._of(parameters)
            case "_count":
                return name, self._of(["0", "1", "2", "5", "100"])
            case "_total":
                return name, self._of(["none", "estimate", "accurate"])
            case "_contained":
                return name, self._of(["both", "true", "false"])
            case "_containedType":
                return name, self._of(["container", "contained"])
        return name, "true"

    def _compartment(self) -> Asked:
        where = self._of(["Patient/p1", "Patient/p2", "Patient/p3", "Encounter/h4", "Encounter/e1"])
        where = self._of([where, where, "Practitioner/d", "Device/u", "RelatedPerson/u"])
        type_ = self._of(["*", *TYPES])
        query = self._query(type_) if type_ != "*" else ()
        return Asked(f"{where}/{type_}", query)

    def _operation(self) -> Asked:
        patient = self._of(["p1", "p1", "p2", "p3"])
        choice = self.rng.randrange(9)
        match choice:
            case 0 | 1:
                return Asked(f"Patient/{patient}/$everything", tuple(self._everything()))
            case 2:
                asked = [("patient", patient), ("max", self._of(["1", "2", "9"]))]
                asked += [self._criterion("Observation")] if self._some(0.5) else []
                return Asked("Observation/$lastn", (*asked, ("code", self._code())))
            case 3:
                statistics = self._of(["count", "average", "maximum", "minimum", "sum"])
                asked = [("subject", f"Patient/{patient}"), ("statistic", statistics)]
                asked += [("code", self._code()), ("duration", "999999")]
                return Asked("Observation/$stats", tuple(asked))
            case 4:
                return self._posted("Patient/$match", resource=self._of_type("Patient"))
            case 5:
                return Asked(self._of(["$meta", *(f"{t}/$meta" for t in TYPES)]))
            case 6:
                model = self._of(["prevent", "ckd_epi_2021", "score2", "u"])
                asked = [("model", model), ("subject", f"Patient/{patient}")]
                return Asked(f"Patient/{patient}/$predict", tuple(asked), self._of(["GET", "POST"]))
            case 7:
                type_, id_ = self.rng.choice(KEYS)
                return Asked(f"{type_}/{id_}/$anonymize", method=self._of(["GET", "POST"]))
            case _:
                type_, id_ = self.rng.choice(KEYS)
                path = self._of([f"{type_}/{id_}/$validate", f"{type_}/$validate"])
                return self._posted(path, resource=self._of_type(type_))

    def _posted(self, path: str, **resources: Json) -> Asked:
        parameter = [{"name": name, "resource": value} for name, value in resources.items()]
        body = {"resourceType": "Parameters", "parameter": parameter}
        return Asked(path, method="POST", body=body)

    def _of_type(self, type_: str) -> Json:
        return self.rng.choice([r for r in WORLD if r["resourceType"] == type_])

    def _code(self) -> str:
        return self._of(["25836-8", "2093-3", "718-7", "http://loinc.org|25836-8"])

    def _everything(self) -> Iterable[tuple[str, str]]:
        if self._some(0.4):
            yield "_type", ",".join(self.rng.sample(TYPES, k=2))
        if self._some(0.3):
            yield self._of(["start", "end", "_since"]), self._of(["2024-03-05", "2020-01-01"])
        if self._some(0.3):
            yield "_count", self._of(["1", "3", "50"])

    def _batch(self) -> Asked:
        gets: list[Asked] = []
        while len(gets) < 3:
            one = self.rng.choice([self._read, self._search, self._history, self._compartment])()
            if one.method == "GET" and not one.form:
                gets.append(one)
        kind = self._of(["batch", "batch", "transaction"])
        entries = [{"request": {"method": "GET", "url": one.url}} for one in gets]
        return Asked(
            "", method="POST", body={"resourceType": "Bundle", "type": kind, "entry": entries}
        )


def differences(
    pair: tuple[Twin, Twin], count: int, seed: int
) -> tuple[list[Asked], dict[int, int]]:
    """The requests (shrunk) of which the answers differ, and how often each status came."""
    generate, found = Generator(seed), list[Asked]()
    statuses: dict[int, int] = {}
    for _ in range(count):
        asked = generate()
        whole, without = (answers(twin, asked) for twin in pair)
        status = whole[0][0]
        statuses[status] = statuses.get(status, 0) + 1
        if whole != without:
            found.append(shrunk(pair, asked))
    return found, statuses
