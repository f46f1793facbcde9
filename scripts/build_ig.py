"""Builds the parts of the implementation guide that the code already says, and its examples.

``python scripts/build_ig.py`` writes the folders of ``ig/`` that are named in ``GENERATED``; with
``--examples`` also ``ig/examples``, made by a server in this process. The rest is written by hand.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

from fhir_server.access import roles
from fhir_server.access.audit import codes
from fhir_server.access.break_glass import KIND
from fhir_server.app import assemble, job_queue, operations, predictions
from fhir_server.config import Settings
from fhir_server.definitions.additions import ADDITIONS
from fhir_server.faces.research import research_operations
from fhir_server.store.memory import MemoryStore
from operations.anonymize import MODES
from operations.consenting.templates import TAG, TEMPLATES
from operations.deid.profile import FOLDER, read
from operations.models import drafts
from operations.models.assembly import models_of
from operations.models.kinds import Origin
from operations.models.manifest import Attribution
from operations.models.registry import SHIPPED
from operations.models.requesting import COLLECT, FEATURE_NAME
from operations.registry import Operation, definition
from operations.research.counting import Blur
from operations.review import REVIEW, SAID, STATUS

Json = dict[str, Any]
GUIDE = Path(__file__).resolve().parent.parent / "ig"
BASE = "http://127.0.0.1:8080/fhir"
CANONICAL = drafts.CANONICAL
GENERATED = (
    "CodeSystem",
    "ValueSet",
    "ConceptMap",
    "OperationDefinition",
    "SearchParameter",
    "Library",
    "ImplementationGuide",
)
MANIFEST: Json = json.loads((GUIDE / "package.json").read_text(encoding="utf-8"))
OBSERVATION_STATUS = "http://hl7.org/fhir/observation-status"

ORIGINS = {
    "record": "Recorded",
    "override": "Given by the caller in place of what is recorded",
    "derived": "Result of another model",
    "computed": "Computed from other features",
    "assumed": "Taken as absent since nothing is recorded",
}
METHODS = {
    "points": "Points of a score",
    "linear": "Terms of a sum",
    "occlusion": "Change of the output when the feature is put to its reference",
}
SCALES = {
    "identity": "The output itself",
    "log": "Natural logarithm",
    "logit": "Logarithm of the odds",
    "cloglog": "ln(-ln(1-p)), of survival models",
}
TASKS = {
    "break-glass-review": "Review of an access in an emergency",
    "model-retraining": "Proposal to train a model anew",
}
DEIDENTIFYING = {"apply": "De-identified", "review": "What would be changed, without data"}


def canonical(type_: str, id_: str) -> str:
    return f"{CANONICAL}:{type_}:{id_}"


def head(type_: str, id_: str, title: str, url: str = "") -> Json:
    return {
        "resourceType": type_,
        "id": id_,
        "url": url or canonical(type_, id_),
        "version": MANIFEST["version"],
        "name": "".join(word.capitalize() for word in id_.split("-")),
        "title": title,
        "status": "active",
        "experimental": False,
        "publisher": MANIFEST["author"],
        "description": f"{title}.",
    }


def code_system(
    id_: str, title: str, concepts: Mapping[str, str], url: str = "", *, whole: bool = True
) -> Json:
    """``whole``: no: what others install or add has further codes."""
    return head("CodeSystem", id_, title, url) | {
        "caseSensitive": True,
        "valueSet": canonical("ValueSet", id_),
        "content": "complete" if whole else "fragment",
        "count": len(concepts),
        "concept": [{"code": code, "display": shown} for code, shown in concepts.items()],
    }


def value_set(system: Json) -> Json:
    """All codes of a code system."""
    found = head("ValueSet", system["id"], system["title"])
    return found | {"compose": {"include": [{"system": system["url"]}]}}


def manifests() -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Models, outputs and features of those that come with the server: name -> title."""
    models: dict[str, str] = {}
    outputs: dict[str, str] = {}
    features: dict[str, str] = {}
    for path in sorted(SHIPPED.glob("*/card.toml")):
        card = tomllib.loads(path.read_text(encoding="utf-8"))
        models[card["name"]] = card["title"]
        told = tomllib.loads((path.parent / "features.toml").read_text(encoding="utf-8"))
        for found, name in ((outputs, "output"), (features, "feature")):
            for one in told[name]:
                found.setdefault(one["name"], one["title"])
        for one in told["feature"]:  # what nobody else has a code for
            for system, code in one.get("codes", ()):
                if system == FEATURE_NAME:
                    features.setdefault(code, one["title"])
    return models, outputs, features


def of_models() -> list[Json]:
    """What manifests name."""
    models, outputs, features = manifests()
    return [
        code_system("model", "Models", models, drafts.MODEL_SYSTEM, whole=False),
        code_system(
            "model-output",
            "Outputs of models",
            outputs,
            f"{drafts.MODEL_SYSTEM}-output",
            whole=False,
        ),
        code_system("model-feature", "Features of models", features, FEATURE_NAME, whole=False),
    ]


def code_systems(rows: Iterable[Operation]) -> list[Json]:
    hypothetical = drafts.HYPOTHETICAL
    events = {name: name.replace("-", " ").capitalize() for name in codes.ACTS}
    events |= {f"${row.code}": row.description for row in sorted(rows, key=lambda row: row.code)}
    hints = get_type_hints(Attribution)
    return [
        *of_models(),
        code_system(
            "result",
            "Kinds of results of models",
            {hypothetical["code"]: hypothetical["display"]},
            hypothetical["system"],
        ),
        code_system("review", "Decisions about drafts of models", SAID, REVIEW),
        code_system(
            "model-task", "Tasks around models", {COLLECT[1]: "Record what is missing"}, COLLECT[0]
        ),
        code_system(
            "task", "Tasks of the server", {c: TASKS[c] for _, c in roles.REVIEWED}, roles.REVIEW[0]
        ),
        code_system(
            "communication",
            "Messages of the server",
            {KIND: "Your record was opened in an emergency"},
            "urn:vehr:communication",
        ),
        code_system("event", "Events of the audit trail", events, codes.OWN, whole=False),
        code_system(
            "role", "Roles of users", {r: r.replace("-", " ") for r in roles.ROLES}, codes.ROLES
        ),
        code_system(
            "consent-template",
            "Templates of decisions of patients",
            {code: one.texts["en"].title for code, one in TEMPLATES.items()},
            TAG,
        ),
        code_system(
            "feature-origin", "Origins of features", {one: ORIGINS[one] for one in get_args(Origin)}
        ),
        code_system(
            "contribution-method",
            "Methods of contributions",
            {one: METHODS[one] for one in get_args(hints["method"])},
        ),
        code_system(
            "contribution-scale",
            "Scales of contributions",
            {one: SCALES[one] for one in get_args(hints["scale"])},
        ),
        code_system(
            "deidentification-mode",
            "Modes of de-identification",
            {one: DEIDENTIFYING[one] for one in MODES},
        ),
    ]


def draft_statuses() -> Json:
    """Of a draft of a model, before and after it was decided about."""
    listed = ["preliminary", *STATUS.values(), "cancelled"]
    include = {"system": OBSERVATION_STATUS, "concept": [{"code": code} for code in listed]}
    found = head("ValueSet", "draft-status", "Statuses of a draft of a model")
    return found | {"compose": {"include": [include]}}


def concept_map(id_: str, title: str, source: str, pairs: Iterable[tuple[str, str, str]]) -> Json:
    """``pairs``: code, system and code that it is told with; one group per system."""
    groups: dict[str, dict[str, list[Json]]] = {}
    for code, system, target in pairs:
        told = {"code": target, "equivalence": "wider"}
        groups.setdefault(system, {}).setdefault(code, []).append(told)
    return head("ConceptMap", id_, title) | {
        "group": [
            {
                "source": source,
                "target": system,
                "element": [{"code": code, "target": found} for code, found in elements.items()],
            }
            for system, elements in groups.items()
        ]
    }


def concept_maps() -> list[Json]:
    acts = [
        (name, system, code)
        for name, act in codes.ACTS.items()
        for system, code, _ in (act.subtype or act.type,)
    ]
    acts += [(f"${name}", system, code) for name, (system, code, _) in codes.OPERATIONS.items()]
    decided = [(decision, OBSERVATION_STATUS, status) for decision, status in STATUS.items()]
    return [
        concept_map("event", "Events of the server as those of DICOM and HL7", codes.OWN, acts),
        concept_map("review", "What a decision makes of a draft", REVIEW, decided),
    ]


def search_parameters() -> list[Json]:
    found = []
    for one in ADDITIONS:
        id_ = one.url.rpartition(":")[2]
        found.append(
            head("SearchParameter", id_, one.code, one.url)
            | {
                "name": one.code,
                "description": one.description,
                "code": one.code,
                "base": list(one.bases),
                "type": one.type,
                "expression": one.expression,
                "xpathUsage": one.usage,
            }
        )
        del found[-1]["title"], found[-1]["xpathUsage"]
    return found


def libraries() -> list[Json]:
    """What the canonicals of de-identification profiles name; the rules are in the server."""
    kind = {
        "system": "http://terminology.hl7.org/CodeSystem/library-type",
        "code": "asset-collection",
    }
    found = []
    for path in sorted(FOLDER.glob("*.json")):
        profile = read(path)
        about = head("Library", f"deidentification-{profile.code}", profile.title, profile.url)
        found.append(about | {"version": profile.version, "type": {"coding": [kind]}})
    return found


def operation_definition(row: Operation) -> Json:
    found = definition(row, BASE)
    about = head("OperationDefinition", found["id"], found["description"])
    return about | found | {"url": about["url"], "name": about["name"]}


async def rows() -> tuple[Operation, ...]:
    """The operations of a server, those of its research face too."""
    with tempfile.TemporaryDirectory() as folder:
        settings = replace(Settings(), store="memory:", data=Path(folder))
        domain = await assemble(settings, MemoryStore())
        models = models_of(settings, domain.engine, domain.indexes)
        queue = job_queue(domain, Path(folder) / "jobs")
        try:
            known = operations(domain, models, predictions(domain, models, queue), queue).rows
            bank = research_operations(domain.face, domain.codes, queue, Blur(b"", 0)).rows
            shared = {row.code for row in known}
            return (*known, *(row for row in bank if row.code not in shared))
        finally:
            await models.close()
            await domain.store.close()


def guide(resources: Iterable[Json], pages: Iterable[Path]) -> Json:
    """The ImplementationGuide: https://hl7.org/fhir/R4/implementationguide.html"""
    about = head("ImplementationGuide", "vehr", MANIFEST["title"])
    return about | {
        "description": MANIFEST["description"],
        "packageId": MANIFEST["name"],
        "license": MANIFEST["license"],
        "fhirVersion": MANIFEST["fhirVersions"],
        "definition": {
            "resource": [_listed(one) for one in resources],
            "page": {
                "nameUrl": "index.md",
                "title": MANIFEST["title"],
                "generation": "markdown",
                "page": [
                    {"nameUrl": one.name, "title": _title(one), "generation": "markdown"}
                    for one in pages
                    if one.name != "index.md"
                ],
            },
        },
    }


def _listed(resource: Json) -> Json:
    claimed = resource.get("meta", {}).get("profile", [])
    name = resource.get("title") or resource.get("name") or resource["id"]
    return {
        "reference": {"reference": f"{resource['resourceType']}/{resource['id']}"},
        "name": name if isinstance(name, str) else resource["id"],
        **({"exampleCanonical": claimed[0]} if claimed else {"exampleBoolean": False}),
    }


def _title(page: Path) -> str:
    return page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def generated() -> dict[str, Json]:
    """Path within ``ig/`` -> what the code says that it holds."""
    known = asyncio.run(rows())
    systems = code_systems(known)
    found = [
        *systems,
        *map(value_set, systems),
        draft_statuses(),
        *concept_maps(),
        *map(operation_definition, known),
        *search_parameters(),
        *libraries(),
    ]
    by_path = {f"{one['resourceType']}/{one['id']}.json": one for one in found}
    assert len(by_path) == len(found), "two resources of one id"
    written = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(GUIDE.glob("*/*.json"))
        if path.parent.name not in GENERATED
    ]
    whole = guide([*by_path.values(), *written], sorted(GUIDE.glob("pagecontent/*.md")))
    return by_path | {"ImplementationGuide/vehr.json": whole}


def text_of(resource: Json) -> str:
    return json.dumps(resource, indent=2, ensure_ascii=False) + "\n"


def write(found: Mapping[str, Json], folders: Iterable[str]) -> None:
    for folder in folders:
        shutil.rmtree(GUIDE / folder, ignore_errors=True)
    for name, resource in found.items():
        path = GUIDE / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text_of(resource), encoding="utf-8")


if __name__ == "__main__":
    if "--examples" in sys.argv:
        from ig_examples import examples

        write(asyncio.run(examples()), ["examples"])
    write(generated(), GENERATED)
