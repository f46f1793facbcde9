"""The implementation guide says what the code says, and what the server makes conforms to it."""

from __future__ import annotations

import asyncio
import copy
import gzip
import importlib
import io
import json
import re
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fhir_server.cli.ig import build
from fhir_server.config import SettingsError
from fhir_server.definitions.packages import read_package
from fhir_server.definitions.packing import pack_guide
from fhir_server.definitions.structures import Archive
from fhir_server.formats.json import loads
from tests.cli.test_ig import vehr
from tests.validation.profile.world import World

Json = dict[str, Any]
ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "ig"
OWN = "urn:vehr:fhir:StructureDefinition:"
EXAMPLES = {path.name: loads(path.read_bytes()) for path in (GUIDE / "examples").glob("*.json")}
CLAIMING = {
    resource["meta"]["profile"][0].removeprefix(OWN): resource
    for resource in EXAMPLES.values()
    if "profile" in resource.get("meta", {})
}


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        yield importlib.import_module("build_ig")
    finally:
        sys.path.remove(str(ROOT / "scripts"))


@pytest.fixture(scope="module")
def packed() -> bytes:
    return pack_guide(GUIDE)


@pytest.fixture(scope="module")
def world(packed: bytes) -> World:
    return World([Archive(read_package(packed).archive)])


def resources(*types: str) -> list[Json]:
    return [loads(path.read_bytes()) for type_ in types for path in (GUIDE / type_).glob("*.json")]


def test_what_the_code_says_is_what_is_committed(script: Any) -> None:
    made = {name: script.text_of(one) for name, one in script.generated().items()}
    here = {
        f"{folder}/{path.name}": path.read_text(encoding="utf-8")
        for folder in script.GENERATED
        for path in (GUIDE / folder).iterdir()
    }
    stale = {name for name in made.keys() | here.keys() if made.get(name) != here.get(name)}
    assert not stale, f"run python scripts/build_ig.py: {sorted(stale)}"


def urls_of_code() -> set[str]:
    """What the code writes into resources, by its literals."""
    found: set[str] = set()
    for folder in ("fhir_server", "operations", "terminology"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            text = re.sub(r"\{(?:drafts\.)?CANONICAL\}", "urn:vehr:fhir", text)
            text = text.replace("{MODEL_SYSTEM}", "urn:vehr:fhir:CodeSystem:model")
            found |= {one.rstrip(":") for one in re.findall(r'"(urn:vehr:[\w:-]+)', text)}
    for path in (ROOT / "operations" / "deid" / "profiles").glob("*.json"):
        found.add(json.loads(path.read_text(encoding="utf-8"))["url"])
    return found - {"urn:vehr:fhir"}


def test_every_url_of_the_server_is_defined() -> None:
    kinds = "StructureDefinition", "CodeSystem", "SearchParameter", "Library"
    defined = {one["url"] for one in resources(*kinds)}
    defined |= {uid["value"] for one in resources("NamingSystem") for uid in one["uniqueId"]}
    used = urls_of_code()
    assert len(used) > 15
    assert used <= defined, used - defined


OLDER: frozenset[str] = frozenset(
    f"urn:vehr:{name}"
    for name in (
        *("communication", "consent-template", "event", "grant", "principal", "role", "task"),
        *("extension:concepts", "extension:unknown-element"),
        "search-parameter:AuditEvent-purpose",
    )
)
"""Of before ``urn:vehr:fhir:TYPE:ID``; stored and attested data name them, so they stay."""


def test_new_urls_have_one_form() -> None:
    """The list of the others may only shrink."""
    assert len(OLDER) <= 10
    assert {one for one in urls_of_code() if not one.startswith("urn:vehr:fhir:")} <= OLDER


def test_definitions_and_examples_are_valid(world: World) -> None:
    """What the profiles cannot find (codes of systems that are not here) are no errors."""
    folders = [path.name for path in GUIDE.iterdir() if path.is_dir()]
    found = resources(*(name for name in folders if name != "pagecontent"))
    assert len(found) > 100
    said = {
        f"{one['resourceType']}/{one['id']}": errors
        for one in found
        if (errors := [(i.expression, i.diagnostics) for i in world.errors(one)])
    }
    assert said == {}


def test_every_profile_has_an_example() -> None:
    structures = resources("StructureDefinition")
    profiles = {one["id"] for one in structures if one["type"] != "Extension"}
    assert profiles == CLAIMING.keys()
    urls = {extension["url"] for extension in CLAIMING["model-risk"]["extension"]}
    assert urls == {OWN + "model-feature", OWN + "model-contribution"}


def test_a_server_makes_what_the_examples_show(world: World, script: Any) -> None:
    """Now, not only when the examples were written."""
    maker = importlib.import_module("ig_examples")
    made = asyncio.run(maker.examples())
    assert {Path(name).name for name in made} == EXAMPLES.keys()
    for name, resource in made.items():
        assert world.errors(loads(json.dumps(resource).encode())) == [], name
        assert resource.keys() == EXAMPLES[Path(name).name].keys(), name


def without(*path: str | int) -> Callable[[Json], None]:
    def change(resource: Any) -> None:
        for step in path[:-1]:
            resource = resource[step]
        del resource[path[-1]]

    return change


def put(value: Any, *path: str | int) -> Callable[[Json], None]:
    def change(resource: Any) -> None:
        for step in path[:-1]:
            resource = resource[step]
        resource[path[-1]] = value

    return change


BROKEN: tuple[tuple[str, Callable[[Json], None], str], ...] = (
    ("model-risk", without("meta", "security"), "RiskAssessment.meta"),
    ("model-risk", without("method", "coding", 0, "version"), "RiskAssessment.method.coding[0]"),
    ("model-risk", without("performer"), "RiskAssessment"),
    ("model-risk", put("unknown", "status"), "RiskAssessment.status"),
    (
        "model-risk",
        put("guess", "extension", 0, "extension", 1, "valueCode"),
        "RiskAssessment.extension[0].extension[1].value",
    ),
    ("model-risk", without("extension", 0, "extension", 0), "RiskAssessment.extension[0]"),
    ("model-observation", without("valueQuantity"), "Observation"),
    ("model-observation", without("device"), "Observation"),
    ("model-observation", put("x", "code", "coding", 1, "system"), "Observation.code"),
    ("model-provenance", without("agent", 0, "type"), "Provenance.agent[0]"),
    ("model-provenance", put("removal", "entity", 0, "role"), "Provenance.entity[0].role"),
    ("review-provenance", without("agent", 0), "Provenance"),
    (
        "review-provenance",
        put("ignore", "activity", "coding", 0, "code"),
        "Provenance.activity.coding[0].code",
    ),
    ("model-device", put("urn:sha256:0", "identifier", 0, "value"), "Device.identifier[0].value"),
    ("model-device", without("note"), "Device"),
    ("model-card", without("subject"), "DocumentReference"),
    (
        "model-card",
        put("text/html", "content", 0, "attachment", "contentType"),
        "DocumentReference.content[0].attachment.contentType",
    ),
    ("template-consent", without("meta", "tag"), "Consent.meta"),
    ("template-consent", without("text"), "Consent"),
    ("feature-request", put("order", "intent"), "Task.intent"),
    ("break-glass-message", put("preparation", "status"), "Communication.status"),
    ("break-glass-message", put("Patient/b", "recipient", 0, "reference"), "Communication"),
    ("break-glass-message", put([{"text": "why"}], "reasonCode"), "Communication.reasonCode"),
    ("break-glass-review", without("input", 3), "Task.input"),
    ("break-glass-review", without("executionPeriod", "end"), "Task.executionPeriod"),
    ("deidentified-bundle", put("searchset", "type"), "Bundle.type"),
    ("deidentified-bundle", without("entry", -1), "Bundle"),
    ("deidentified-bundle", without("entry", 0, "resource", "meta"), "Bundle"),
    ("deidentified-bundle", put([{"family": "A"}], "entry", 0, "resource", "name"), "Bundle"),
    ("deidentification-report", without("parameter", 0), "Parameters"),
    (
        "deidentification-report",
        put("some", "parameter", 3, "valueCode"),
        "Parameters.parameter[3]",
    ),
)


@pytest.mark.parametrize(("name", "change", "where"), BROKEN)
def test_what_does_not_conform_is_found(
    name: str, change: Callable[[Json], None], where: str, world: World
) -> None:
    resource = copy.deepcopy(CLAIMING[name])
    change(resource)
    said = [issue.expression or "" for issue in world.errors(resource)]
    assert any(one.startswith(where) for one in said), said


def test_the_package_has_what_the_folder_has(packed: bytes) -> None:
    assert pack_guide(GUIDE) == packed
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(packed))) as archive:
        names = set(archive.getnames())
        index = json.load(archive.extractfile("package/.index.json") or io.BytesIO())
    listed = {f"package/{row['filename']}" for row in index["files"]}
    flat = {name for name in names if name.count("/") == 1}
    assert flat - listed == {"package/package.json", "package/.index.json"} and listed < flat
    assert {row["resourceType"] for row in index["files"]} >= {"OperationDefinition"}
    assert sum(name.startswith("package/example/") for name in names) == len(EXAMPLES) + 1
    assert "package/other/index.md" in names


def test_built_installed_and_used(tmp_path: Path) -> None:
    path, data = tmp_path / "guide.tgz", tmp_path / "data"
    build(GUIDE, path)
    done = vehr(data, "ig", "install", path)
    assert done.output.splitlines()[0] == "org.vehr.fhir#0.1.0: installed"
    broken = copy.deepcopy(CLAIMING["model-device"])
    del broken["note"]
    for name, resource in (("good", CLAIMING["model-risk"]), ("bad", broken)):
        (tmp_path / f"{name}.json").write_text(json.dumps(resource, default=float))
    assert vehr(data, "validate", "--quiet", tmp_path / "good.json").exit_code == 0
    refused = vehr(data, "validate", "--quiet", tmp_path / "bad.json")
    assert refused.exit_code == 1 and "Device.note" in refused.output


def test_what_is_no_guide_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no package\.json"):
        build(tmp_path, tmp_path / "a.tgz")
    (tmp_path / "package.json").write_bytes((GUIDE / "package.json").read_bytes())
    (tmp_path / "ValueSet").mkdir()
    (tmp_path / "ValueSet" / "a.json").write_text("[1]")
    with pytest.raises(SettingsError, match=r"a\.json"):
        build(tmp_path, tmp_path / "a.tgz")
    assert not (tmp_path / "a.tgz").exists()
