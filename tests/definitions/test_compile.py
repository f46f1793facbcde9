"""The compiler: errata are needed and applied, the artefact is what the source says."""

from __future__ import annotations

import gzip
from pathlib import Path

import msgspec
import pytest

from fhir_server.definitions import registry
from fhir_server.definitions.compile import Corrections, compile_package
from fhir_server.definitions.elements import Package
from fhir_server.definitions.errata import ERRATA
from fhir_server.definitions.package import resources
from fhir_server.definitions.registry import load


def test_errata_are_applied() -> None:
    r4 = load()
    expressions = {
        c.key: c.expression
        for t in r4.types.values()
        for e in t.elements.values()
        for c in e.constraints
    }
    searches = {
        p.url.rpartition("/")[2]: p.expression
        for t in r4.resource_types
        for p in r4.search_parameters(t).values()
    }
    for erratum in ERRATA:
        if erratum.kind == "constraint":
            assert expressions[erratum.subject] == erratum.correction
        if erratum.kind == "search":
            assert searches[erratum.subject] == erratum.correction
    for type_ in r4.resource_types:
        assert r4.element(f"{type_}.id").types[0].code == "id"
    assert r4.element("HumanName.id").types[0].code == "string"


def test_every_erratum_has_a_reason_and_a_source() -> None:
    for erratum in ERRATA:
        assert erratum.reason and "https://" in erratum.source
    assert len({(e.kind, e.subject) for e in ERRATA}) == len(ERRATA)


def test_an_erratum_that_changes_nothing_is_refused() -> None:
    rows = Corrections("constraint")
    rows.apply("app-4", "as published")
    with pytest.raises(ValueError, match="bdl-8"):
        rows.check()
    settled = Corrections("constraint", [e for e in ERRATA if e.subject == "app-4"])
    assert settled.apply("other-1", "as published") == "as published"
    with pytest.raises(ValueError, match="app-4"):
        settled.check()
    assert settled.apply("app-4", "as published") != "as published"
    settled.check()


@pytest.mark.slow
def test_the_artefact_is_compiled_from_the_official_package(shared: Path) -> None:
    """A copy of the package from elsewhere gives the same artefact."""
    with (shared / "fhir-r4" / "hl7.fhir.r4.core-4.0.1.tgz").open("rb") as tarball:
        compiled = compile_package("hl7.fhir.r4.core", "4.0.1", resources(tarball))
    packed = Path(registry.__file__).with_name(registry.ARTEFACT).read_bytes()
    committed = msgspec.msgpack.decode(gzip.decompress(packed), type=Package)
    for name in Package.__struct_fields__:
        assert getattr(compiled, name) == getattr(committed, name), name
