"""The methods by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from operations.deid.transforms.base import Given, Method
from operations.deid.transforms.basic import Keep, Redact, Substitute
from operations.deid.transforms.coded import KeepCoding, KeepQuantity
from operations.deid.transforms.dates import DateGeneralise
from operations.deid.transforms.place import Zip3
from operations.deid.transforms.surrogate import Surrogate

METHODS: Final[Mapping[str, Callable[[Given], Method]]] = {
    "keep": Keep,
    "redact": Redact,
    "substitute": Substitute,
    "dategeneralise": DateGeneralise,
    "surrogate": Surrogate,
    "keepcoding": KeepCoding,
    "keepquantity": KeepQuantity,
    "zip3": Zip3,
}
"""By lower-case name: configuration files write them in any case."""


LEAVE: Final = "data-absent-reason"
"""The parameter ``leave`` of any rule: the mark that stands where a value has gone. Without it
there is one only where the definitions require the element."""


def method(name: str, params: Mapping[str, Any], shared: Mapping[str, Any]) -> Method:
    """The method of a rule. Raises ValueError for an unknown name or parameter."""
    make = METHODS.get(name.lower())
    if make is None:
        raise ValueError(f"unknown method {name}")
    given = Given(params, shared)
    if given.get("leave", LEAVE) != LEAVE:
        raise ValueError(f"leave is {LEAVE}")
    made = make(given)
    if given.unknown():
        raise ValueError(f"{name} knows no {', '.join(given.unknown())}")
    return made
