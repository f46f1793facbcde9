"""One validator for all tests: it is made once, as in the server."""

from __future__ import annotations

import pytest

from fhir_server.definitions.registry import load
from fhir_server.validation.validate import Validator


@pytest.fixture(scope="session")
def validator() -> Validator:
    return Validator(load())
