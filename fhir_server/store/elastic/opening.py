"""From the settings to a store that is searched with words by an Elasticsearch."""

from __future__ import annotations

from fhir_server.config import Settings
from fhir_server.definitions.registry import load
from fhir_server.formats.json import loads
from fhir_server.model.problem import Unavailable
from fhir_server.model.resource import Stored
from fhir_server.search.extract import compile_extract
from fhir_server.search.schema import SearchSchema
from fhir_server.search.values import IndexValues
from fhir_server.store.base import Store
from fhir_server.store.elastic.cluster import Cluster, connect
from fhir_server.store.elastic.store import SearchedStore
from fhir_server.store.elastic.vectors import Embedder


def over(store: Store, settings: Settings) -> SearchedStore:
    """Raises Unavailable: a secret that cannot be read, certificates that cannot be used."""
    cluster = connect(settings.search, secret(settings), settings.search_ca)
    return searched(store, cluster, settings.base_url + "/fhir")


def searched(
    store: Store, cluster: Cluster, base: str, embedder: Embedder | None = None
) -> SearchedStore:
    """Documents hold the values of FHIR's own parameters: what a posted one means may change,
    and nothing is written anew then. ``base``: URL of the server's own resources."""
    schema = SearchSchema(load())
    extract = compile_extract(schema, base)

    def read(stored: Stored) -> IndexValues:
        return extract(loads(stored.body))

    def indexed(type_: str) -> frozenset[str]:
        return names(schema, type_)

    return SearchedStore(store, cluster, read, indexed, embedder)


def names(schema: SearchSchema, type_: str) -> frozenset[str]:
    """The indexes of a type; none for what is not one."""
    if type_ not in schema.types:
        return frozenset()
    found = schema.of(type_).parameters.values()
    return frozenset(name for parameter in found for name in parameter.indexes)


def secret(settings: Settings) -> str:
    if settings.search_secret_file is None:
        return settings.search_secret
    try:
        return settings.search_secret_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise Unavailable(f"VEHR_SEARCH_SECRET_FILE cannot be read: {reason}") from None
