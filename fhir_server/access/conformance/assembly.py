"""How the definitions of a store are put together."""

from __future__ import annotations

from collections.abc import Iterable

from fhir_server.access.commit import committing
from fhir_server.access.conformance.conformance import Conformance
from fhir_server.access.conformance.packages import Packages
from fhir_server.access.conformance.policy import ProfilePolicy
from fhir_server.search.schema import SearchSchema
from fhir_server.store.base import Store
from fhir_server.store.blobs import Blobs
from fhir_server.validation.validate import Validator


def conforming(
    store: Store, schema: SearchSchema, blobs: Blobs | None, profiles: Iterable[tuple[str, str]]
) -> Conformance:
    """``profiles``: rows of the setting."""
    packages = Packages(store.ledger, committing(store), blobs)
    policy, validator = ProfilePolicy.of_setting(profiles), Validator(schema.definitions)
    return Conformance(store, schema, packages, policy, validator)
