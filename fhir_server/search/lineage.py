"""Types whose resources are part of others of the same type, so that a reference has an above and
a below: https://hl7.org/fhir/R4/search.html#recursive
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from fhir_server.definitions.registry import load


@cache
def lineages() -> Mapping[str, str]:
    """Type -> the parameter by which its resources refer to what they are part of, where that
    can only be of the type itself.
    """
    definitions, found = load(), dict[str, str]()
    for type_ in sorted(definitions.resource_types):
        for code, parameter in definitions.search_parameters(type_).items():
            if parameter.expression == f"{type_}.partOf" and parameter.targets == (type_,):
                found[type_] = code
    return found
