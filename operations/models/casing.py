"""Codes as they are compared: in any case, unless the system is known to be case-sensitive.

The rule of search (https://hl7.org/fhir/R4/search.html#token), by what FHIR's definitions say of
the system: a ``j45.0`` of ICD-10 is a J45.0.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TypeAlias

from fhir_server.search.parameters import defined_case
from fhir_server.search.plan import Any, Predicate, TokenIs
from fhir_server.search.values import FOLDED

CodePair: TypeAlias = tuple[str, str]
"""System and code."""


@cache
def _case_matters(system: str) -> bool:
    return bool(defined_case(system))


@lru_cache(maxsize=65_536)
def comparable(pair: CodePair) -> CodePair:
    """The same for all spellings of one code."""
    system, code = pair
    return pair if _case_matters(system) else (system, code.casefold())


def bears(index: str, pair: CodePair) -> Predicate:
    """The index has a spelling of this code, which is comparable."""
    system, code = pair
    if _case_matters(system) or code == code.upper():
        return TokenIs(index, system, code)
    return Any((TokenIs(index, system, code), TokenIs(index, system, code + FOLDED)))
