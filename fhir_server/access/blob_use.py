"""What a blob is used for: a ledger row each, so that a sweep leaves it alone."""

from __future__ import annotations

from typing import Final

from fhir_server.model.problem import NotSupported
from fhir_server.store.blobs import Blobs

CONTENT: Final = "blob"
"""Kind of the rows that name blobs, which backups and copies go by: digest and size."""
USE: Final = "blob-use"
"""Kind of the rows; keys are ``digest/what``."""


def needed(blobs: Blobs | None) -> Blobs:
    if blobs is None:
        raise NotSupported("this server has no place for raw content")
    return blobs
