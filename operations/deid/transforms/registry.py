"""The methods by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from operations.deid.transforms.base import Given, Method
from operations.deid.transforms.basic import Keep, Mask, Substitute
from operations.deid.transforms.coded import KeepCoding, KeepQuantity
from operations.deid.transforms.dates import DateGeneralise, DateShift
from operations.deid.transforms.generalise import Generalise
from operations.deid.transforms.hidden import CryptoHash, Encrypt
from operations.deid.transforms.numbers import Perturb
from operations.deid.transforms.place import Zip3
from operations.deid.transforms.redact import Redact
from operations.deid.transforms.surrogate import Pseudonym, Surrogate
from operations.deid.transforms.texts import CleanText

METHODS: Final[Mapping[str, Callable[[Given], Method]]] = {
    "keep": Keep,
    "redact": Redact,
    "substitute": Substitute,
    "mask": Mask,
    "dategeneralise": DateGeneralise,
    "dateshift": DateShift,
    "surrogate": Surrogate,
    "pseudonym": Pseudonym,
    "cryptohash": CryptoHash,
    "encrypt": Encrypt,
    "perturb": Perturb,
    "generalise": Generalise,
    "generalize": Generalise,
    "keepcoding": KeepCoding,
    "keepquantity": KeepQuantity,
    "zip3": Zip3,
    "cleantext": CleanText,
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
