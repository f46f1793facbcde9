"""restrict: a plan that sees only what a policy permits.

(a) What the principal may see is conjoined onto every Scan: the searched one, chain
targets, ``_has`` sources, includes, guards. (b) A reference counts only if its target
exists for the principal. ``Not`` and absence apply after both, because they stand above
the rewritten leaves. (``access/shown`` has excepted before what is only in what is masked.)
Law: ``run(restrict(p), everything)`` equals ``run(p, a world that never held the hidden
things)``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from fhir_server.access.consent.pinning import pinned
from fhir_server.access.policy import Policy, knowing, unknowing
from fhir_server.access.roles import AUDIT
from fhir_server.search.plan import (
    FALSE,
    TRUE,
    All,
    Any,
    Chain,
    Coded,
    Composite,
    Contains,
    Dated,
    DateIs,
    EachPatient,
    Has,
    IdIn,
    Include,
    InPatient,
    Near,
    Not,
    NumberIs,
    Predicate,
    Present,
    QuantityIs,
    ReferenceIs,
    Scan,
    Search,
    StringIs,
    TextHas,
    TokenIs,
    UpdatedIs,
    UriIs,
    both,
)


def restrict(search: Search, policy: Policy, letter: str = "s") -> Search:
    """``letter``: the scope letter that the searched scans need (r for a read)."""
    known: dict[str, Scan] = {}
    return replace(
        search,
        scans=tuple(restrict_scan(scan, policy, letter) for scan in search.scans),
        includes=tuple(_include(include, policy, known) for include in search.includes),
    )


def restrict_scan(scan: Scan, policy: Policy, letter: str = "s") -> Scan:
    """The permitted part of one Scan, its inner scans restricted too."""
    policy = knowing(policy) if scan.type == AUDIT else unknowing(policy)
    where = both(policy.sees(letter, scan.type), restrict_predicate(scan.where, policy, scan.type))
    return Scan(scan.type, pinned(scan.type, where))


def _contained(scan: Scan, policy: Policy) -> Scan:
    """Who sees a resource sees what it contains; what that refers to is another matter."""
    policy = unknowing(policy)
    where = restrict_predicate(scan.where, policy, scan.type)
    return Scan(scan.type, both(policy.inside(scan.type), where))


def _include(include: Include, policy: Policy, known: dict[str, Scan]) -> Include:
    return replace(
        include,
        source=_readable(include.source, policy, known),
        targets=tuple(_readable(target, policy, known) for target in include.targets),
    )


def _readable(scan: Scan, policy: Policy, known: dict[str, Scan]) -> Scan:
    """``known``: whole types that were restricted before; ``_include=*`` names each of them
    thousands of times."""
    if scan.where != TRUE:
        return restrict_scan(scan, policy, "r")
    found = known.get(scan.type)
    if found is None:
        found = known[scan.type] = restrict_scan(scan, policy, "r")
    return found


def restrict_predicate(predicate: Predicate, policy: Policy, type_: str) -> Predicate:
    """Rewrite one predicate; what the policy says is not itself rewritten again."""
    match predicate:
        case All(parts):
            return All(tuple(restrict_predicate(p, policy, type_) for p in parts))
        case Any(parts):
            return Any(tuple(restrict_predicate(p, policy, type_) for p in parts))
        case Not(part):
            return Not(restrict_predicate(part, policy, type_))
        case Chain(targets=targets, inside=inside):
            return replace(
                predicate,
                targets=tuple(restrict_scan(t, policy) for t in targets),
                inside=tuple(_contained(t, policy) for t in inside),
            )
        case Contains(scan):
            return Contains(_contained(scan, policy))
        case Has(source):
            return replace(predicate, source=restrict_scan(source, policy))
        case Composite(param, parts):
            return Composite(param, tuple(restrict_predicate(p, policy, type_) for p in parts))
        case ReferenceIs():
            return _reference(predicate, policy)
        case Present(_, "reference", _):
            return _present(predicate, policy)
        case (
            IdIn()
            | UpdatedIs()
            | TokenIs()
            | StringIs()
            | DateIs()
            | NumberIs()
            | QuantityIs()
            | UriIs()
            | TextHas()
            | Present()
            | Near()
            | InPatient()
            | Dated()
            | Coded()
            | EachPatient()
        ):
            return predicate
        case _:
            assert_never(predicate)


def _reference(leaf: ReferenceIs, policy: Policy) -> Predicate:
    """A local reference whose target may not be known to exist does not count."""
    if leaf.id is None:
        return leaf
    if leaf.type is None:
        # Untyped ids are given their target types when the parameter is parsed.
        return leaf if policy.whole else FALSE
    known = policy.exists(leaf.type)
    if known == TRUE:
        return leaf
    if known == FALSE:
        return FALSE
    if isinstance(known, InPatient) and leaf.type == "Patient":
        # The commonest case needs no join: the Patient compartment of a Patient is its id.
        return leaf if leaf.id in known.ids else FALSE
    target = Scan(leaf.type, both(IdIn((leaf.id,)), known))
    return All((leaf, Chain(leaf.param, (target,))))


def _present(leaf: Present, policy: Policy) -> Predicate:
    """A reference parameter has a value only if one of its targets may be known to exist, or what
    it leads to in the resource itself may be seen."""
    if policy.whole:
        return leaf
    known = tuple(
        Scan(target, where) for target in leaf.targets if (where := policy.exists(target)) != FALSE
    )
    within = tuple(
        Scan(target, where) for target in leaf.targets if (where := policy.inside(target)) != FALSE
    )
    outside = Present(leaf.param, "url")
    return Any((outside, Chain(leaf.param, known, inside=within))) if known or within else outside
