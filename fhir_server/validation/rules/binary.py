"""base64Binary: https://hl7.org/fhir/R4/datatypes.html#base64Binary"""

from __future__ import annotations

import binascii

from .fault import Fault, wrong_type

_SPACES = str.maketrans("", "", " \t\r\n")


def base64_binary(value: object) -> Fault | None:
    """Base64 (RFC 4648, padded); white space between is allowed, an empty text is not."""
    if type(value) is not str:
        return wrong_type(value, "string")
    packed = value if value.isalnum() else value.translate(_SPACES)
    if not packed:
        return Fault("value", "must not be empty")
    try:
        binascii.a2b_base64(packed, strict_mode=True)
    except (binascii.Error, ValueError):
        return Fault("value", "is no base64 text")
    return None
