"""A database that an older program has filled is indexed anew when it is opened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fhir_server.access.index_form import FORM, KEY, KIND, renew_index
from fhir_server.formats.json import loads
from fhir_server.model.problem import Unavailable
from fhir_server.search.values import FOLDED
from fhir_server.store.base import ChangeSet, Reindexed
from fhir_server.store.ledger import LedgerWrite
from tests.serving import BACKENDS, Server, served

SPELLED, QUERY = "AB-c", "Patient?identifier=ab-C"


async def grow_old(server: Server) -> None:
    """As an older program would have left it: without folded tokens, without the row."""
    engine = server.domain.engine
    old = []
    async for stored in engine.store.changes(0):
        values = engine.extract(loads(stored.body))
        tokens = [token for token in values.tokens if not token.code.endswith(FOLDED)]
        old.append(Reindexed(stored.key, stored.version, replace(values, tokens=tokens)))
    assert await engine.store.reindex(old) == len(old)
    await engine.store.apply(ChangeSet(ledger=(LedgerWrite(KIND, KEY, None),)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_older_index_is_made_anew(tmp_path: Path, backend: str) -> None:
    with served(backend, tmp_path) as server:
        server.create({"resourceType": "Patient", "identifier": [{"value": SPELLED}]})
        server.run(grow_old(server))
        assert server.get(QUERY).json()["total"] == 0
        server.run(renew_index(server.domain.engine))
        assert server.get(QUERY).json()["total"] == 1
        row = server.run(server.domain.engine.store.ledger.get(KIND, KEY))
        assert row is not None and row.value["form"] == FORM


def test_a_newer_index_is_refused(tmp_path: Path) -> None:
    with served("memory", tmp_path) as server:
        write = LedgerWrite(KIND, KEY, {"form": FORM + 1})
        server.run(server.domain.engine.store.apply(ChangeSet(ledger=(write,))))
        with pytest.raises(Unavailable, match="use the newer program"):
            server.run(renew_index(server.domain.engine))
