"""``decide`` and its predicate say the same, and both obey the laws of consent."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.access.consent.asking import Facts, Reader
from fhir_server.access.consent.codes import CONFIDENTIALITY, REASONS, SENSITIVITY, Code, below
from fhir_server.access.consent.compiled import Compiler
from fhir_server.access.consent.decision import Rules, decide
from fhir_server.access.consent.provisions import Consent, consent_of
from fhir_server.access.consent.relating import Relating
from fhir_server.access.labels import LABEL, Labelling, labelled
from fhir_server.definitions.registry import load
from fhir_server.model.datatypes import parse_instant
from fhir_server.model.resource import Key
from fhir_server.search import plan
from fhir_server.search.codings import codings
from fhir_server.search.extract import compile_extract
from fhir_server.search.match import Joined, matches
from fhir_server.search.plan import EachPatient, Predicate
from fhir_server.search.schema import SearchSchema
from fhir_server.search.values import DATE_MIN

SCHEMA = SearchSchema(load())
EXTRACT = labelled(compile_extract(SCHEMA), Labelling(()))
NOW = parse_instant("2024-06-01T12:00:00Z")
RELATING = Relating(SCHEMA, {Key("Encounter", "e1"): frozenset({Key("Condition", "c1")})})
PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
Json = dict[str, Any]

DATES = st.sampled_from(["2023", "2024-01-10", "2024-06-01", "2024-06-01T12:00:00Z", "2025-02"])
LABELS = st.sampled_from(
    [{"system": CONFIDENTIALITY, "code": code} for code in "ULMNRV"]
    + [{"system": SENSITIVITY, "code": code} for code in ("HIV", "SUD", "ETH", "OPIOIDUD", "PSY")]
)
PURPOSES = ("TREAT", "ETREAT", "BTG", "HPAYMT", "HRESCH", "HMARKT")
ACTORS = ("Practitioner/d", "Organization/o", "Group/g")
PCF = "https://profiles.ihe.net/ITI/PCF/Policy"
LOINC = "http://loinc.org"


def period() -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries({}, optional={"start": DATES, "end": DATES}).filter(bool)


def coding(system: str, codes: tuple[str, ...]) -> st.SearchStrategy[Json]:
    return st.sampled_from([{"system": system, "code": code} for code in codes])


def some(strategy: st.SearchStrategy[Json]) -> st.SearchStrategy[list[Json]]:
    return st.lists(strategy, min_size=1, max_size=2)


ACTOR = st.builds(
    lambda role, who: {
        "role": {"coding": [{"system": PARTICIPATION, "code": role}]},
        "reference": {"reference": who},
    },
    st.sampled_from(["IRCP", "IRCP", "AUT"]),
    st.sampled_from(ACTORS),
)
DATA = st.builds(
    lambda meaning, reference: {"meaning": meaning, "reference": {"reference": reference}},
    st.sampled_from(["instance", "related", "dependents", "authoredby"]),
    st.sampled_from(["Observation/r", "Encounter/e1", "Practitioner/d", "Condition/c1"]),
)


def provision(depth: int = 2) -> st.SearchStrategy[Json]:
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "type": st.sampled_from(["permit", "deny"]),
        "period": period(),
        "actor": some(ACTOR),
        "action": some(
            st.builds(
                lambda code: {"coding": [code]},
                coding(
                    "http://terminology.hl7.org/CodeSystem/consentaction", ("access", "correct")
                ),
            )
        ),
        "securityLabel": some(LABELS),
        "purpose": some(st.one_of(coding(REASONS, PURPOSES), coding("urn:x", ("FooBar",)))),
        "class": some(
            st.one_of(
                coding("http://hl7.org/fhir/resource-types", ("Observation", "Condition")),
                coding("urn:ietf:rfc:3986", ("urn:profile",)),
            )
        ),
        "code": some(st.builds(lambda code: {"coding": [code]}, coding(LOINC, ("1", "2")))),
        "dataPeriod": period(),
        "data": some(DATA),
    }
    if depth:
        kinds["provision"] = st.lists(provision(depth - 1), min_size=1, max_size=2)
    return st.fixed_dictionaries({}, optional=kinds)


CONSENTS = st.builds(
    lambda root, status, scope, policy, rule: {
        "resourceType": "Consent",
        "id": "c",
        "status": status,
        "scope": {
            "coding": [
                {"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": scope}
            ]
        },
        "patient": {"reference": "Patient/p"},
        "policy": [{"uri": policy}],
        "provision": root,
        **rule,
    },
    provision(),
    st.sampled_from(["active", "active", "active", "rejected", "draft"]),
    st.sampled_from(["patient-privacy", "patient-privacy", "research", "adr"]),
    st.sampled_from(
        ["urn:p", f"{PCF}-basic-normal", f"{PCF}-deny"],
    ),
    st.sampled_from(
        [
            {},
            {},
            {"policyRule": {"coding": [{"system": SENSITIVITY, "code": "OPTIN"}]}},
            {"policyRule": {"coding": [{"system": SENSITIVITY, "code": "OPTOUT"}]}},
        ]
    ),
)

RESOURCES = st.builds(
    lambda type_, labels, code, date, encounter, performer, profile, also: {
        "resourceType": type_,
        "id": "r",
        "meta": {"security": labels, "profile": profile},
        "code": {"coding": [{"system": LOINC, "code": code}]},
        "subject": {"reference": "Patient/p"},
        **({"encounter": {"reference": encounter}} if encounter else {}),
        **(
            {"performer": [{"reference": performer}, *also], "effectiveDateTime": date}
            if type_ == "Observation"
            else {"asserter": {"reference": performer}, "recordedDate": date}
        ),
    },
    st.sampled_from(["Observation", "Condition"]),
    st.lists(LABELS, max_size=2),
    st.sampled_from(["1", "2", "3"]),
    DATES,
    st.sampled_from(["", "Encounter/e1", "Encounter/e2"]),
    st.sampled_from(["Practitioner/d", "Practitioner/x"]),
    st.sampled_from([[], ["urn:profile"]]),
    st.sampled_from([[], [{"reference": "Patient/q"}]]),
)

READERS = st.builds(
    Reader,
    names=st.frozensets(st.sampled_from(ACTORS)),
    own=st.sampled_from([frozenset(), frozenset(), frozenset({"p"})]),
    acts_for=st.sampled_from([frozenset(), frozenset(), frozenset({"q"})]),
    purpose=st.sampled_from(PURPOSES),
    now=st.just(NOW),
    broken=st.sampled_from([frozenset(), frozenset({"p"}), frozenset({"p", "q"})]),
)


def facts_of(resource: Json) -> Facts:
    values = EXTRACT(resource)
    tokens = [token for token in values.tokens if token.param == LABEL]
    return Facts(
        key=Key(resource["resourceType"], resource["id"]),
        patients=values.patients,
        labels=frozenset(Code(token.system, token.code) for token in tokens),
        codings=frozenset(Code(*coding) for coding in codings(resource)),
        profiles=frozenset(resource["meta"]["profile"]),
        date=NOW if values.date == DATE_MIN else values.date,
        references=tuple(values.references),
    )


def permits(resource: Json, letter: str, reader: Reader, rules: Rules) -> bool:
    """What the predicate says."""
    type_ = resource["resourceType"]
    compiler = Compiler(type_, letter, reader, rules)
    of = {patient: compiler.of_patient(patient) for patient in ("p", "q")}
    held = {*codings(resource)}

    def body(node: Joined) -> bool:
        assert isinstance(node, plan.Coded)
        return any(node.system in (None, s) and node.code == c for s, c in held)

    each: Predicate = EachPatient(of, compiler.unrecorded())
    return matches(each, resource["id"], EXTRACT(resource), NOW, body)


def rules_of(consents: list[Json], policy: Any = "basic-normal") -> Rules:
    by: dict[str, tuple[Consent, ...]] = {}
    for number, resource in enumerate(consents):
        found = consent_of({**resource, "id": f"c{number}"}, 1, UTC)
        if found is not None:
            by[found.patient] = (*by.get(found.patient, ()), found)
    return Rules(by, RELATING, policy)


LETTERS = st.sampled_from("rscud")
POLICIES = st.sampled_from(["basic-normal", "all-normal", "break-glass-only", "deny"])
PATIENTS = st.sampled_from(["Patient/p", "Patient/q"])
MANY = st.lists(
    st.builds(lambda c, p: {**c, "patient": {"reference": p}}, CONSENTS, PATIENTS), max_size=3
)


@settings(max_examples=600, deadline=None)
@given(MANY, RESOURCES, READERS, LETTERS, POLICIES)
def test_the_decision_and_its_predicate_are_equal(
    consents: list[Json], resource: Json, reader: Reader, letter: str, policy: Any
) -> None:
    rules = rules_of(consents, policy)
    decision = decide(facts_of(resource), letter, reader, rules)
    assert decision.permitted == permits(resource, letter, reader, rules), decision


@settings(max_examples=200, deadline=None)
@given(MANY, RESOURCES, READERS, CONSENTS)
def test_a_denial_more_never_permits_more(
    consents: list[Json], resource: Json, reader: Reader, more: Json
) -> None:
    """Beside other consents, one that only denies takes away at most."""
    recorded = [*consents, {**more, "provision": {"type": "permit"}, "status": "active"}]
    denying = {**more, "provision": only_denials(more["provision"]), "policyRule": None}
    denying |= {"status": "active", "policy": []}
    before = decide(facts_of(resource), "r", reader, rules_of(recorded)).permitted
    after = decide(facts_of(resource), "r", reader, rules_of([*recorded, denying])).permitted
    assert before or not after


def only_denials(rule: Json) -> Json:
    inner = [only_denials(one) for one in rule.get("provision", ())]
    return {**rule, "type": "deny", **({"provision": inner} if inner else {})}


@settings(max_examples=200, deadline=None)
@given(MANY, RESOURCES, READERS, st.randoms(use_true_random=False))
def test_the_order_of_consents_does_not_matter(
    consents: list[Json], resource: Json, reader: Reader, random: Any
) -> None:
    facts = facts_of(resource)
    shuffled = random.sample(consents, len(consents))
    one, other = (decide(facts, "r", reader, rules_of(c)) for c in (consents, shuffled))
    assert one.permitted == other.permitted


def test_nothing_holds_before_its_beginning_or_after_its_end() -> None:
    rule = {"type": "permit", "period": {"start": "2024-06-01", "end": "2024-06-02"}}
    consent = {
        "resourceType": "Consent",
        "id": "c",
        "status": "active",
        "patient": {"reference": "Patient/p"},
        "provision": rule,
    }
    rules = rules_of([consent], "deny")
    resource = {
        "resourceType": "Condition",
        "id": "r",
        "meta": {"security": [], "profile": []},
        "subject": {"reference": "Patient/p"},
    }
    for moment, expected in (
        ("2024-05-31T23:59:59.999Z", False),
        ("2024-06-01T00:00:00Z", True),
        ("2024-06-02T23:59:59.999Z", True),
        ("2024-06-03T00:00:00Z", False),
    ):
        reader = Reader(now=parse_instant(moment))
        assert decide(facts_of(resource), "r", reader, rules).permitted is expected, moment


def test_a_purpose_covers_what_is_below_it() -> None:
    assert "BTG" in below("TREAT") and "TREAT" not in below("ETREAT")
    reader = Reader(purpose="ETREAT", now=NOW)
    assert reader.states(frozenset({Code(REASONS, "TREAT")}))
    assert not replace(reader, purpose="HRESCH").states(frozenset({Code(REASONS, "TREAT")}))
