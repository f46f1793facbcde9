"""RxNorm, from its Rich Release Format: https://hl7.org/fhir/R4/rxnorm.html

``RXNCONSO.RRF`` for the names, ``RXNREL.RRF`` for the relationships between them; formats:
https://www.nlm.nih.gov/research/umls/rxnorm/docs/techdoc.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from terminology.concepts import Json
from terminology.importers.release import Imported, Release, Wanted, coded, system
from terminology.service import Refused

URL: Final = "http://www.nlm.nih.gov/research/umls/rxnorm"
OWN: Final = "RXNORM"
ORDER: Final = (
    "SCD",
    "SBD",
    "GPCK",
    "BPCK",
    "SCDG",
    "SBDG",
    "SCDF",
    "SBDF",
    "SCDC",
    "SBDC",
    "MIN",
    "PIN",
    "IN",
    "BN",
    "DFG",
    "DF",
)
"""Term types whose name is the display, the first first; others are synonyms."""
CONSO: Final = {"rxcui": 0, "sab": 11, "tty": 12, "str": 14, "suppress": 16}
REL: Final = {"rxcui1": 0, "rxcui2": 4, "rela": 7, "sab": 10}
_DATE: Final = re.compile(r"(\d{8})")


def read(release: Release, wanted: Wanted) -> Imported:
    version = wanted.version or _version(release)
    names = _names(release)
    links = _links(release, names)
    relations = sorted({kind for some in links.values() for kind, _ in some} - {"parent"})
    inactive = {
        "code": "inactive",
        "uri": "http://hl7.org/fhir/concept-properties#inactive",
        "type": "boolean",
    }
    tty = {"code": "TTY", "type": "code", "description": "Term types of the concept"}
    kinds = [{"code": one, "type": "code"} for one in ("parent", *relations)]
    code_system = system(
        URL, version, "RxNorm", hierarchyMeaning="is-a", property=[inactive, tty, *kinds]
    )
    return Imported(code_system, _concepts(names, links))


def _version(release: Release) -> str:
    found = _DATE.search(release.path.name)
    if found is None:
        raise Refused("invalid", "the version of RxNorm is not in the file's name: state it")
    return found[1]


def _names(release: Release) -> dict[str, list[tuple[str, str, str]]]:
    """concept -> (term type, name, suppressed), of RxNorm itself."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    for row in _rows(release, r"(?:.*/)?RXNCONSO\.RRF", CONSO):
        if row["sab"] == OWN:
            found.setdefault(row["rxcui"], []).append((row["tty"], row["str"], row["suppress"]))
    return found


def _links(release: Release, known: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """concept -> (relationship, target). A row says what the second concept is to the first."""
    found: dict[str, list[tuple[str, str]]] = {}
    if not release.find(r"(?:.*/)?RXNREL\.RRF"):
        return found
    for row in _rows(release, r"(?:.*/)?RXNREL\.RRF", REL):
        source, target, kind = row["rxcui2"], row["rxcui1"], row["rela"]
        if row["sab"] != OWN or not kind or source not in known or target not in known:
            continue
        link = ("parent" if kind == "isa" else kind, target)
        if kind != "inverse_isa" and link not in (some := found.setdefault(source, [])):
            some.append(link)
    return found


def _concepts(
    names: Mapping[str, list[tuple[str, str, str]]], links: Mapping[str, list[tuple[str, str]]]
) -> Iterator[Json]:
    rank = {kind: place for place, kind in enumerate(ORDER)}
    for code, known in names.items():
        kept = [one for one in known if one[2] in ("", "N")] or known
        shown = min(kept, key=lambda one: rank.get(one[0], len(ORDER)))
        properties: list[Json] = [coded("TTY", kind) for kind in dict.fromkeys(k for k, *_ in kept)]
        if all(one[2] not in ("", "N") for one in known):
            properties.append({"code": "inactive", "valueBoolean": True})
        properties += [coded(kind, target) for kind, target in links.get(code, ())]
        found: dict[str, Any] = {"code": code, "display": shown[1]}
        others = [
            {"value": text} for text in dict.fromkeys(t for _, t, _ in kept) if text != shown[1]
        ]
        if others:
            found["designation"] = others
        yield {**found, "property": properties}


def _rows(release: Release, pattern: str, columns: Mapping[str, int]) -> Iterator[dict[str, str]]:
    """A table without a heading; each field ends with a bar."""
    name = release.one(pattern, pattern.rpartition("?")[2].replace("\\", ""))
    with release.text(name) as lines:
        for number, line in enumerate(lines, 1):
            fields = line.rstrip("\r\n").split("|")
            if len(fields) <= max(columns.values()):
                raise Refused("invalid", f"{name[:100]}: line {number} has too few fields")
            yield {column: fields[place] for column, place in columns.items()}
