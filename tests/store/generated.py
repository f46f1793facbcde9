"""Generated histories of resources, and searches for them."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import strategies as st

from fhir_server.formats.json import dumps
from fhir_server.search import plan
from fhir_server.search.plan import Include, Scan, Search, SortKey
from fhir_server.search.values import (
    CANONICAL,
    DATE_MAX,
    DATE_MIN,
    ContainedValue,
    DateValue,
    GroupValue,
    IndexValues,
    NumberValue,
    QuantityValue,
    ReferenceValue,
    StringValue,
    TokenValue,
    UriValue,
    fold,
)
from tests.store.building import values

DAY = 86_400_000_000
TYPES = ("Patient", "Observation")
IDS = ("1", "2", "3", "4", "5", "6")
PARAMS = ("a", "code")
TEXTS = ("Ada", "ada  LOVE", "Ärzte", "Їжак", "adam", "", "zz\U0010ffff")
URIS = ("http://a", "http://a/b", "http://a/b/c", "urn:x")
SYSTEMS = ("", "s", "t")
CODES = ("1", "2", "3")
UNITS = ("g", "m", "")
SAID = ("bone", "bon", "liver", "іжак", "骨", "x", "ada", "love")
WORDS = ("bone", "Bón", "liver", "їжак", "骨折", "x1")
DAYS = st.integers(-3, 3)
PREFIXES = st.sampled_from(["eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"])
types, ids, params = (st.sampled_from(x) for x in (TYPES, IDS, PARAMS))
systems, codes, texts = (st.sampled_from(x) for x in (SYSTEMS, CODES, TEXTS))
uris, units = st.sampled_from(URIS), st.sampled_from(UNITS)
points = st.integers(-4, 4).map(float)


def random_value(chance: Random) -> Any:
    param, code = chance.choice(PARAMS), chance.choice(CODES)
    number, day = float(chance.randint(-4, 4)), chance.randint(-3, 3) * DAY
    match chance.randrange(11):
        case 0:
            return TokenValue(param, chance.choice(SYSTEMS), code)
        case 1:
            return StringValue(param, chance.choice(TEXTS))
        case 2:
            return DateValue(param, day, day + chance.choice([1, 1000, DAY, 3 * DAY]))
        case 3:
            open_ends = (day, DATE_MAX), (DATE_MIN, day)
            return DateValue(param, *chance.choice(open_ends))
        case 4:
            return NumberValue(param, number, number + chance.choice([0, 0, 3]))
        case 5:
            unit = chance.choice(UNITS)
            scaled = number / 10 if unit else 0.0
            return QuantityValue(param, number, number, "s", code, code, scaled, scaled, unit)
        case 6:
            uri, version = chance.choice(URIS), chance.choice(["", "|2"])
            return UriValue(chance.choice([param, CANONICAL]), uri + version)
        case 7:
            uri = chance.choice([*URIS, "#1", "#2"])
            return ReferenceValue(param, "", "", uri, chance.choice(["", "2"]))
        case 8:
            inner = [random_value(chance) for _ in range(chance.randint(1, 3))]
            return GroupValue(param, values(*(v for v in inner if type(v) is not GroupValue)))
        case 9:
            degrees = [NumberValue(str(n), number, number) for n in range(2)]
            return GroupValue("place", IndexValues(DATE_MIN, (), numbers=degrees))
        case _:
            version = chance.choice(["", "", "2"])
            return ReferenceValue(param, chance.choice(TYPES), chance.choice(IDS), "", version)


def random_contained(chance: Random, date: int) -> list[ContainedValue]:
    """None in most resources. Their ids are those of resources, too."""
    return [
        ContainedValue(
            chance.choice(TYPES),
            str(number),
            values(
                *(random_value(chance) for _ in range(chance.randint(1, 5))),
                date=date,
                patients=tuple(chance.choices(IDS, k=chance.randrange(2))),
            ),
        )
        for number in range(1, 1 + chance.choice([0, 0, 1, 3]))
    ]


def random_body(chance: Random, type_: str, id_: str) -> bytes:
    """A resource that says something: in its narrative, elsewhere, or nothing."""
    said = [" ".join(chance.choices(WORDS, k=chance.randint(1, 4))) for _ in range(2)]
    resource: dict[str, Any] = {"resourceType": type_, "id": id_}
    if chance.random() < 0.6:
        resource["text"] = {"status": "generated", "div": f"<div>{said[0]}</div>"}
    if chance.random() < 0.6:
        resource["extension"] = [{"url": "u", "valueString": said[1]}]
    if chance.random() < 0.6:
        of = [{"system": chance.choice(SYSTEMS), "code": c} for c in chance.sample(CODES, 2)]
        resource["code"] = {"coding": [{k: v for k, v in one.items() if v} for one in of]}
    if chance.random() < 0.3:
        said = [*chance.choices(WORDS, k=2)]
        resource["contained"] = [
            {"resourceType": "Patient", "name": [{"family": word}]} for word in said
        ]
    return dumps(resource)


Event = tuple[str, str, IndexValues | None, bytes]


def random_history(chance: Random) -> list[Event]:
    """Writes and deletions (None) in order."""
    made: list[Event] = []
    for _ in range(chance.randint(5, 40)):
        found = [random_value(chance) for _ in range(chance.randint(2, 12))]
        patients = tuple(sorted(set(chance.choices(IDS, k=chance.randrange(3)))))
        date = chance.randint(-3, 3) * DAY
        found += random_contained(chance, date)
        index = values(*found, date=date, patients=patients)
        deleted = chance.random() < 0.15
        type_, id_ = chance.choice(TYPES), chance.choice(IDS)
        made.append((type_, id_, None if deleted else index, random_body(chance, type_, id_)))
    return made


ranged = st.builds(lambda a, n: (a * DAY, a * DAY + n), DAYS, st.sampled_from([1, DAY, 3 * DAY]))
precise = st.builds(lambda v, d: (v, v - d, v + d), points, st.sampled_from([0.5, 2.0]))


leaves = st.one_of(
    st.builds(lambda i: plan.IdIn(tuple(i)), st.lists(ids, max_size=3)),
    st.builds(
        lambda p, n: plan.UpdatedIs(p, 1_000_000 + 1000 * n, 1_000_000 + 1000 * (n + 2)),
        PREFIXES,
        st.integers(0, 40),
    ),
    st.builds(plan.TokenIs, params, st.one_of(systems, st.none()), st.one_of(codes, st.none())),
    st.builds(lambda p, t: plan.StringIs(p, fold(t)[:3]), params, texts),
    st.builds(lambda p, t: plan.StringIs(p, t, "exact"), params, texts),
    st.builds(
        lambda p, t, m: plan.StringIs(p, fold(t), m), params, texts, st.sampled_from(["ends", "is"])
    ),
    st.builds(lambda p, t: plan.StringIs(p, fold(t)[1:3], "contains"), params, texts),
    st.builds(lambda p, f, r: plan.DateIs(p, f, *r), params, PREFIXES, ranged),
    st.builds(lambda p, f, r: plan.NumberIs(p, f, *r), params, PREFIXES, precise),
    st.builds(
        lambda p, f, r, u, c: plan.QuantityIs(p, f, *r, None, c, u),
        params,
        PREFIXES,
        precise,
        units,
        st.one_of(codes, st.none()),
    ),
    st.builds(
        plan.TextHas,
        st.sampled_from(["_text", "_content", *PARAMS]),
        st.lists(st.sampled_from(SAID), min_size=1, max_size=2).map(tuple),
        st.booleans(),
    ),
    st.builds(plan.ReferenceIs, params, st.one_of(types, st.none()), ids),
    st.builds(lambda n, m: plan.Near("place", n, 0.0, m), points, st.sampled_from([1.0, 3e5])),
    st.builds(lambda p, i: plan.ReferenceIs(p, None, i, version="2"), params, ids),
    st.builds(lambda p, u: plan.ReferenceIs(p, None, None, u), params, uris),
    st.builds(
        lambda p, u, m: plan.UriIs(p, u, m),
        params,
        uris,
        st.sampled_from(["exact", "below", "above"]),
    ),
    st.builds(
        plan.Present,
        params,
        st.sampled_from(
            ["token", "string", "date", "number", "quantity", "reference", "url", "uri"]
        ),
    ),
    st.builds(lambda i: plan.InPatient(tuple(i)), st.lists(ids, min_size=1, max_size=2)),
    st.builds(plan.Coded, st.one_of(systems, st.none()), codes),
    st.builds(lambda span: plan.Dated(*span), ranged),
)


def grow(inner: st.SearchStrategy[plan.Predicate]) -> st.SearchStrategy[plan.Predicate]:
    scans = st.builds(Scan, types, inner)
    some = st.lists(inner, max_size=3).map(tuple)
    return st.one_of(
        st.builds(plan.All, some),
        st.builds(plan.Any, some),
        st.builds(plan.Not, inner),
        st.builds(
            lambda p, t, c, i: plan.Chain(p, tuple(t), c, tuple(i)),
            params,
            st.lists(scans, max_size=2),
            st.booleans(),
            st.lists(scans, max_size=2),
        ),
        st.builds(plan.Contains, scans),
        st.builds(plan.Has, scans, params, st.booleans()),
        st.builds(plan.Composite, params, some),
    )


predicates = st.recursive(leaves, grow, max_leaves=6)
pairs = st.lists(leaves, min_size=2, max_size=2).map(lambda p: plan.All(tuple(p)))


of_patient = st.builds(
    lambda p, i, s, c, more: plan.All(
        (plan.ReferenceIs(p, "Patient", i), plan.TokenIs("code", s, c), *more)
    ),
    params,
    ids,
    st.one_of(systems, st.none()),
    codes,
    st.lists(leaves, max_size=1),
)


consented = st.builds(
    lambda asked, rules, other: plan.All((asked, plan.EachPatient(rules, other))),
    predicates,
    st.dictionaries(ids, st.one_of(leaves, st.builds(plan.Not, leaves)), max_size=4),
    st.one_of(leaves, st.just(plan.TRUE)),
)
"""What a reader asks for, of what the consents of each patient leave."""


scans = st.builds(
    Scan, types, st.one_of(leaves, pairs, of_patient, predicates, consented, st.just(plan.TRUE))
)


sort_keys = st.one_of(
    st.builds(
        lambda k, d: SortKey("_" + k, k, d),
        st.sampled_from(["main", "id", "updated"]),
        st.booleans(),
    ),
    st.builds(
        lambda p, k, d: SortKey(p, k, d),
        params,
        st.sampled_from(["date", "string", "token", "number", "quantity", "uri"]),
        st.booleans(),
    ),
)


sorts = st.one_of(
    st.just(plan.DEFAULT_SORT),
    st.lists(sort_keys, min_size=1, max_size=2).map(tuple),
)


includes = st.builds(
    lambda s, p, t, r, i, c: Include(s, p, tuple(t), r, i, c),
    scans,
    params,
    st.lists(scans, min_size=1, max_size=2),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


searches = st.builds(
    lambda s, o, c, i, t, a: Search(tuple(s), o, c, None, tuple(i), t, a),
    st.lists(scans, min_size=1, max_size=2),
    sorts,
    st.integers(0, 4),
    st.lists(includes, max_size=2),
    st.sampled_from(["none", "limited", "exact"]),
    st.one_of(st.none(), st.none(), st.integers(0, 40)),
)
