"""Extension.url and ext-1: https://hl7.org/fhir/R4/extensibility.html"""

from __future__ import annotations

from fhir_server.model.exchange import Json

from .fault import Fault, shown
from .uris import absolute


def absolute_url(extension: Json) -> Fault | None:
    """The url is absolute; only extensions inside extensions may have a short name."""
    url = extension["url"]
    if absolute(url):
        return None
    return Fault("extension", f"url {shown(url)} must be absolute")
