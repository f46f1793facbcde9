"""Resources and their identities.

A resource is a plain JSON dict. Its stored form is minified JSON bytes with ``id`` and
``meta`` in place, served as they are.
"""

from __future__ import annotations

import re
from typing import NamedTuple

ID_PATTERN = re.compile(r"[A-Za-z0-9\-.]{1,64}")
"""Resource ids: https://hl7.org/fhir/R4/datatypes.html#id"""


class Key(NamedTuple):
    """The identity of a resource: ``Patient/1``."""

    type: str
    id: str

    def __str__(self) -> str:
        return f"{self.type}/{self.id}"


class Stored(NamedTuple):
    """One version of one resource as a store holds it.

    ``version``: counts from 1 (``meta.versionId``). ``updated``: microseconds since the
    epoch (``meta.lastUpdated``; strictly rising along the versions of one resource; rendered
    with millisecond digits). ``body``: the stored bytes, empty when ``deleted``.
    ``seq``: position in the change feed. ``method``: the verb that made it (POST, PUT,
    PATCH, DELETE).
    """

    key: Key
    version: int
    updated: int
    body: bytes
    seq: int = 0
    method: str = "PUT"

    @property
    def deleted(self) -> bool:
        return self.method == "DELETE"

    @property
    def etag(self) -> str:
        return f'W/"{self.version}"'
