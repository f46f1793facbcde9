"""A cleaner without a model: what the record tells and what the rules find."""

from __future__ import annotations

import pytest

from fhir_server.definitions.registry import load
from operations.deid.elements import Elements
from operations.deid.text.cleaner import Cleaner
from operations.deid.text.tagging.lexicon import LISTS, Bloom, Lexicon


class Silent:
    """Finds nothing."""

    async def tag(self, texts):
        return [[] for _ in texts]


@pytest.fixture(scope="session")
def elements():
    return Elements(load())


@pytest.fixture(scope="session")
def cleaner(elements):
    return Cleaner(Silent(), Lexicon((Bloom(bytes(8)),) * len(LISTS)), elements)
