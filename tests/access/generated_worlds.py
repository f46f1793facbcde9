"""Generated resources, policies and questions, and what a world without the hidden answers."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass, replace

from fhir_server.access.policy import Policy, ScopePolicy
from fhir_server.access.principal import Principal
from fhir_server.access.scopes import parse_scopes
from fhir_server.formats.json import dumps
from fhir_server.model.resource import Key
from fhir_server.search import plan, words
from fhir_server.search.match import matches_leaf
from fhir_server.search.plan import Include, Predicate, Scan, Search
from fhir_server.search.values import (
    CANONICAL,
    ContainedValue,
    GroupValue,
    IndexValues,
    ReferenceValue,
    TokenValue,
    UriValue,
)
from fhir_server.store.base import Change, ChangeSet, Store
from fhir_server.store.memory import MemoryStore

TYPES = ("Patient", "Observation", "Encounter", "Practitioner")
COMPARTMENT = {"Patient": ("_id",), "Observation": ("subject",), "Encounter": ("subject",)}


LINKS = {  # type -> index name -> target types
    "Observation": {
        "subject": ("Patient",),
        "encounter": ("Encounter",),
        "performer": ("Practitioner", "Patient"),
        "member": ("Observation",),
        "definition": ("Encounter", "Practitioner"),
    },
    "Encounter": {"subject": ("Patient",), "part": ("Encounter",)},
    "Patient": {"gp": ("Practitioner",), "link": ("Patient",)},
    "Practitioner": {},
}


CANONICAL_LINKS = {"definition"}
CODES = ("a", "b")


@dataclass(frozen=True)
class Held:
    key: Key
    values: IndexValues


def body(item: Held) -> bytes:
    """What its values say, in words too: codes, and references with the name of their target."""
    said = [{"url": "code", "valueString": value.code} for value in item.values.tokens]
    led = item.values.references + [r for g in item.values.groups for r in g.values.references]
    named = [
        {
            "url": ref.param,
            "valueReference": {
                "reference": f"{ref.type}/{ref.id}",
                "display": f"{ref.type}{ref.id}",
                "identifier": {"value": f"{ref.type}{ref.id}"},
            },
        }
        for ref in led
    ]
    return dumps({"resourceType": item.key.type, "id": item.key.id, "extension": [*said, *named]})


def compile_filter(type_: str, filters: tuple[tuple[str, str], ...]) -> Predicate:
    return plan.All(tuple(plan.TokenIs(name, None, value) for name, value in filters))


def world(rng: random.Random) -> list[Held]:
    keys = [Key(t, str(n)) for t in TYPES for n in range(3)]
    rng.shuffle(keys)
    held = []
    for key in keys:
        values = IndexValues(date=rng.randrange(4))
        for param, targets in LINKS[key.type].items():
            if param in CANONICAL_LINKS:
                url = f"urn:{rng.choice(targets)}:{rng.randrange(3)}"
                version = rng.choice(["", "1"])
                values.references.append(ReferenceValue(param, "", "", url, version))
            elif rng.random() < 0.7:
                values.references.append(
                    ReferenceValue(param, rng.choice(targets), str(rng.randrange(3)), "", "")
                )
        url = f"urn:{key.type}:{key.id}"
        values.uris += [UriValue(CANONICAL, url), UriValue(CANONICAL, f"{url}|1")]
        values.tokens.append(TokenValue("code", "s", rng.choice(CODES)))
        for _ in range(rng.randrange(3)):
            values.groups.append(pair(rng))
        contain(rng, key.type, values)
        patients = [r.id for r in values.references if r.param == "subject" and r.id]
        values.patients = (key.id,) if key.type == "Patient" else tuple(patients)
        held.append(Held(key, values))
    return held


def contain(rng: random.Random, type_: str, values: IndexValues) -> None:
    """A contained resource, which may refer to what is hidden; perhaps referred to."""
    links = [param for param in LINKS[type_] if param not in CANONICAL_LINKS]
    if rng.random() < 0.4 or not links:
        return
    leading = rng.choice(links)
    inner = rng.choice(LINKS[type_][leading])
    references = [
        ReferenceValue(param, rng.choice(targets), str(rng.randrange(3)), "", "")
        for param, targets in LINKS[inner].items()
        if rng.random() < 0.7 and param not in CANONICAL_LINKS
    ]
    tokens = [TokenValue("code", "s", rng.choice(CODES))]
    held = IndexValues(date=values.date, tokens=tokens, references=references)
    values.contained.append(ContainedValue(inner, "c", held))
    if rng.random() < 0.8:
        values.references.append(ReferenceValue(leading, "", "", "#c", ""))


def pair(rng: random.Random) -> GroupValue:
    """A composite of a reference and a code."""
    reference = ReferenceValue("0", rng.choice(TYPES), str(rng.randrange(3)), "", "")
    token = TokenValue("1", "s", rng.choice(CODES))
    return GroupValue("pair", IndexValues(references=[reference], tokens=[token]))


class Labelled(ScopePolicy):
    """Of what is contained, only what bears the code "a" is shown."""

    def inside(self, type_: str) -> Predicate:
        return plan.TokenIs("code", None, "a")


def policy_of(rng: random.Random) -> Policy:
    kinds = ["*", *TYPES]
    chosen = rng.sample(kinds, k=rng.choice([1, 2, 4]))
    scopes = " ".join(
        f"patient/{kind}.rs" + (rng.choice(["", "?code=a"]) if kind != "*" else "")
        for kind in chosen
    )
    principal = Principal("p", parse_scopes(scopes, TYPES), patient="0")
    kind = rng.choice([ScopePolicy, Labelled])
    return kind(principal, COMPARTMENT, compile_filter)


def predicate(rng: random.Random, type_: str, depth: int = 2) -> Predicate:
    links = list(LINKS[type_].items())
    kind = rng.choice(
        [
            "token",
            "id",
            "not",
            "any",
            "all",
            "ref",
            "pair",
            "present",
            "chain",
            "has",
            "text",
            "contains",
        ]
    )
    if depth == 0 or (kind in ("ref", "present", "chain") and not links):
        return plan.TokenIs("code", None, rng.choice(CODES))
    inner = lambda t=type_: predicate(rng, t, depth - 1)  # noqa: E731
    match kind:
        case "text":
            word = rng.choice([*CODES, f"{rng.choice(TYPES)}{rng.randrange(3)}".lower()])
            return plan.TextHas(words.CONTENT, (word,), rng.random() < 0.3)
        case "id":
            return plan.IdIn((str(rng.randrange(3)),))
        case "not":
            return plan.Not(inner())
        case "any" | "all":
            return (plan.Any if kind == "any" else plan.All)((inner(), inner()))
        case "ref":
            param, targets = rng.choice(links)
            if param in CANONICAL_LINKS:
                url = f"urn:{rng.choice(targets)}:{rng.randrange(3)}"
                return plan.ReferenceIs(param, None, None, url)
            return plan.ReferenceIs(param, rng.choice(targets), str(rng.randrange(3)))
        case "pair":
            target = plan.ReferenceIs("0", rng.choice(TYPES), str(rng.randrange(3)))
            return plan.Composite("pair", (target, plan.TokenIs("1", None, rng.choice(CODES))))
        case "present":
            param, targets = rng.choice(links)
            return plan.Present(param, "reference", targets)
        case "chain":
            param, targets = rng.choice(links)
            scans = tuple(Scan(t, inner(t)) for t in targets)
            inside = tuple(Scan(t, refers(rng, t)) for t in TYPES)
            within = rng.choice([(), inside])
            return plan.Chain(param, scans, param in CANONICAL_LINKS, within)
        case "contains":
            t = rng.choice(TYPES)
            return plan.Contains(Scan(t, rng.choice([inner(t), refers(rng, t)])))
        case "has":
            sources = [(t, p) for t in TYPES for p, ts in LINKS[t].items() if type_ in ts]
            source, param = rng.choice(sources)
            return plan.Has(Scan(source, inner(source)), param, param in CANONICAL_LINKS)
    return plan.TokenIs("code", None, "a")


def refers(rng: random.Random, type_: str) -> Predicate:
    links = [(p, ts) for p, ts in LINKS[type_].items() if p not in CANONICAL_LINKS]
    if not links:
        return plan.TokenIs("code", None, "a")
    id_ = str(rng.randrange(3))
    return plan.Any(tuple(plan.ReferenceIs(p, t, id_) for p, ts in links for t in ts))


def valued(rng: random.Random, type_: str) -> Predicate:
    """Whether a reference parameter has a value; or a pair."""
    links = list(LINKS[type_].items())
    if not links or rng.random() < 0.3:
        target = plan.ReferenceIs("0", rng.choice(TYPES), str(rng.randrange(3)))
        return plan.Composite("pair", (target, plan.TokenIs("1", None, rng.choice(CODES))))
    param, targets = rng.choice(links)
    return plan.Present(param, "reference", targets)


def inward(rng: random.Random, type_: str) -> Predicate:
    """A chain that leads nowhere but into contained resources."""
    param = rng.choice([*LINKS[type_], "none"])
    return plan.Chain(param, (), inside=tuple(Scan(t, refers(rng, t)) for t in TYPES))


ASKED = (
    *[predicate] * 7,
    inward,
    *[valued] * 3,
    lambda rng, _: plan.Any(tuple(plan.Contains(Scan(t, refers(rng, t))) for t in TYPES)),
    lambda rng, type_: plan.Not(predicate(rng, type_)),
)


def question(rng: random.Random) -> Search:
    type_ = rng.choice(TYPES)
    includes = [
        Include(
            Scan(t),
            param,
            tuple(Scan(target) for target in targets),
            reverse,
            iterate,
            param in CANONICAL_LINKS,
        )
        for t in TYPES
        for param, targets in LINKS[t].items()
        for reverse in (False, True)
        for iterate in (rng.random() < 0.3,)
        if rng.random() < 0.15
    ]
    return Search(
        (Scan(type_, rng.choice(ASKED)(rng, type_)),),
        count=rng.choice([2, 50]),
        includes=tuple(includes),
        total="exact",
    )


async def fill(held: list[Held], store: Store | None = None) -> Store:
    store = MemoryStore() if store is None else store
    changes = (Change(item.key, 1, 1000, body(item), item.values, "PUT", 0) for item in held)
    await store.apply(ChangeSet(tuple(changes)))
    return store


def holds(where: Predicate, item: Held) -> bool:
    """Policies of scopes have no joins."""
    match where:
        case plan.All(parts):
            return all(holds(part, item) for part in parts)
        case plan.Any(parts):
            return any(holds(part, item) for part in parts)
        case plan.InPatient() | plan.TokenIs():
            return matches_leaf(where, item.key.id, item.values, 0)
    raise AssertionError(where)


def without_hidden(held: list[Held], policy: Policy) -> list[Held]:
    """The twin world: hidden resources never were, references to them neither."""
    there = {item.key for item in held if holds(policy.exists(item.key.type), item)}
    return [
        Held(item.key, shown(item.values, policy, there))
        for item in held
        if holds(policy.sees("s", item.key.type), item)
    ]


def shown(values: IndexValues, policy: Policy, there: set[Key]) -> IndexValues:
    kept = [
        one._replace(values=replace(one.values, references=known(one.values.references, there, ())))
        for one in values.contained
        if holds(policy.inside(one.type), Held(Key(one.type, one.id), one.values))
    ]
    copies = {f"#{one.id}" for one in values.contained} - {f"#{one.id}" for one in kept}
    return replace(
        values,
        references=known(values.references, there, copies),
        contained=kept,
        groups=[g for g in values.groups if Key(*led(g)) in there],
    )


def known(
    references: list[ReferenceValue], there: set[Key], copies: Collection[str]
) -> list[ReferenceValue]:
    return [r for r in references if r.url not in copies and (r.url or Key(r.type, r.id) in there)]


def led(group: GroupValue) -> tuple[str, str]:
    reference = group.values.references[0]
    return reference.type, reference.id


async def answer(store: Store, search: Search) -> object:
    pages, after, total = [], None, None
    while True:
        page = await store.run(replace(search, after=after))
        pages.append(
            ([str(s.key) for s in page.matches], sorted(str(s.key) for s in page.included))
        )
        total, after = page.total, page.next
        if after is None:
            return total, pages
