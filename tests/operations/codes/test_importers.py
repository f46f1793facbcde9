"""Releases in the formats of their publishers, small and made up, become code systems."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from terminology.filed import Filed
from terminology.importers.formats import READERS, build
from terminology.importers.release import Wanted
from terminology.service import Refused

Files = Mapping[str, str]


def snapshot(rows: list[list[str]]) -> str:
    return "".join("\t".join(row) + "\r\n" for row in rows)


CORE = "900000000000207008"
FULL, SYNONYM = "900000000000003001", "900000000000013009"
DEFINED, PRIMITIVE = "900000000000073002", "900000000000074008"
_CONCEPT = ["id", "effectiveTime", "active", "moduleId", "definitionStatusId"]
_DESCRIPTION = [
    "id",
    "effectiveTime",
    "active",
    "moduleId",
    "conceptId",
    "languageCode",
    "typeId",
    "term",
    "caseSignificanceId",
]
_RELATIONSHIP = [
    "id",
    "effectiveTime",
    "active",
    "moduleId",
    "sourceId",
    "destinationId",
    "relationshipGroup",
    "typeId",
    "characteristicTypeId",
    "modifierId",
]
_LANGUAGE = [
    "id",
    "effectiveTime",
    "active",
    "moduleId",
    "refsetId",
    "referencedComponentId",
    "acceptabilityId",
]
SNOMED: Files = {
    "Rel/Snapshot/Terminology/sct2_Concept_Snapshot_INT_20250101.txt": snapshot(
        [
            _CONCEPT,
            ["138875005", "20020131", "1", CORE, PRIMITIVE],
            ["404684003", "20040131", "1", CORE, PRIMITIVE],
            ["233604007", "20250101", "1", CORE, DEFINED],
            ["39607008", "20020131", "1", CORE, PRIMITIVE],
            ["1", "20250101", "0", CORE, PRIMITIVE],
        ]
    ),
    "Rel/Snapshot/Terminology/sct2_Description_Snapshot-en_INT_20250101.txt": snapshot(
        [
            _DESCRIPTION,
            ["d1", "2002", "1", CORE, "138875005", "en", FULL, "SNOMED CT Concept", "x"],
            ["d2", "2002", "1", CORE, "404684003", "en", FULL, "Clinical finding (finding)", "x"],
            ["d3", "2002", "1", CORE, "233604007", "en", FULL, "Pneumonia (disorder)", "x"],
            ["d4", "2002", "1", CORE, "233604007", "en", SYNONYM, "Pneumonitis of lung", "x"],
            ["d5", "2002", "1", CORE, "233604007", "en", SYNONYM, 'Pneumonia "proper"', "x"],
            ["d6", "2002", "0", CORE, "233604007", "en", SYNONYM, "Gone", "x"],
            ["d7", "2002", "1", CORE, "39607008", "en", FULL, "Lung structure (body)", "x"],
        ]
    ),
    "Rel/Snapshot/Terminology/sct2_Relationship_Snapshot_INT_20250101.txt": snapshot(
        [
            _RELATIONSHIP,
            ["r1", "2002", "1", CORE, "404684003", "138875005", "0", "116680003", "x", "y"],
            ["r2", "2002", "1", CORE, "233604007", "404684003", "0", "116680003", "x", "y"],
            ["r3", "2002", "1", CORE, "233604007", "39607008", "1", "363698007", "x", "y"],
            ["r4", "2002", "0", CORE, "39607008", "404684003", "0", "116680003", "x", "y"],
        ]
    ),
    "Rel/Snapshot/Refset/Language/der2_cRefset_LanguageSnapshot-en_INT_20250101.txt": snapshot(
        [
            _LANGUAGE,
            ["l1", "2002", "1", CORE, "900000000000509007", "d5", "900000000000548007"],
            ["l2", "2002", "1", CORE, "900000000000509007", "d4", "900000000000549004"],
        ]
    ),
}
LOINC: Files = {
    "LoincTable/Loinc.csv": (
        '"LOINC_NUM","COMPONENT","PROPERTY","STATUS","SHORTNAME","LONG_COMMON_NAME"\n'
        '"4548-4","Hemoglobin A1c","MFr","ACTIVE","HbA1c","Hemoglobin A1c in Blood"\n'
        '"1-8","Acyclovir","Susc","DEPRECATED","","Acyclovir [Susceptibility]"\n'
    ),
    "AccessoryFiles/ComponentHierarchyBySystem/ComponentHierarchyBySystem.csv": (
        '"PATH_TO_ROOT","SEQUENCE","IMMEDIATE_PARENT","CODE","CODE_TEXT"\n'
        '"","1","","LP1-1","Laboratory"\n"LP1-1","1","LP1-1","4548-4","HbA1c"\n'
    ),
    "AccessoryFiles/PartFile/Part.csv": (
        '"PartNumber","PartTypeName","PartName","PartDisplayName","Status"\n'
        '"LP1-1","CLASS","Laboratory","Lab","ACTIVE"\n'
    ),
    "AccessoryFiles/AnswerFile/AnswerList.csv": (
        '"AnswerListId","AnswerListName","AnswerStringId","DisplayText"\n'
        '"LL1","Yes or no","LA33-6","Yes"\n"LL1","Yes or no","LA32-8","No"\n'
    ),
}
CLAML = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE ClaML SYSTEM "ClaML.dtd">
<ClaML version="2.0.0"><Title date="2019-01-01" name="ICD-10" version="2019">ICD-10</Title>
<Class code="I" kind="chapter"><SubClass code="A00-A09"/>
  <Rubric id="1" kind="preferred"><Label xml:lang="en" xml:space="default">Certain infectious
    <Fragment type="item">diseases</Fragment></Label></Rubric></Class>
<Class code="A00-A09" kind="block"><SuperClass code="I"/><SubClass code="A00"/>
  <Rubric id="2" kind="preferred"><Label xml:lang="en">Intestinal</Label></Rubric></Class>
<Class code="A00" kind="category" usage="dagger"><SuperClass code="A00-A09"/>
  <Rubric id="3" kind="preferred"><Label xml:lang="en">Cholera</Label></Rubric>
  <Rubric id="4" kind="inclusion"><Label xml:lang="en">Blue death</Label></Rubric></Class>
</ClaML>"""
CM: Files = {
    "icd10cm_order_2025.txt": "".join(
        f"{n:05} {code:<7} {valid} {short:<60} {long}\r\n"
        for n, (code, valid, short, long) in enumerate(
            [
                ("A00", "0", "Cholera", "Cholera"),
                ("A000", "1", "Cholera due to Vibrio", "Cholera due to Vibrio cholerae 01"),
                ("A01", "0", "Typhoid", "Typhoid and paratyphoid fevers"),
                ("A010", "0", "Typhoid fever", "Typhoid fever"),
                ("A0100", "1", "Typhoid fever, unsp", "Typhoid fever, unspecified"),
            ],
            1,
        )
    )
}


TABULAR: Files = {
    "icd10cm_tabular_2026.xml": """<?xml version="1.0" encoding="utf-8"?>
<ICD10CM.tabular><version>2026</version><chapter><name>19</name><desc>Injury</desc>
<sectionIndex><sectionRef first="S00" id="S00-S09"/></sectionIndex>
<section id="S00-S09"><desc>Injuries to the head</desc>
<diag><name>S00</name><desc>Superficial injury of head</desc>
  <sevenChrDef><extension char="A">initial  encounter</extension>
  <extension char="D">subsequent encounter</extension></sevenChrDef>
  <diag><name>S00.0</name><desc>Injury of scalp</desc>
    <inclusionTerm><note>Bump</note></inclusionTerm></diag></diag>
<diag><name>S06.1X7</name><desc>With death</desc><sevenChrDef><extension char="A"/>
  <extension char="D"/><extension char="S"/></sevenChrDef></diag>
<diag><name>S09</name><desc>Other injuries</desc>
  <diag><name>S09.0</name><desc>Injury of vessels</desc></diag></diag>
</section></chapter></ICD10CM.tabular>"""
}


def conso(cui: str, kind: str, text: str, suppress: str = "N", source: str = "RXNORM") -> str:
    fields = [cui, "ENG", *[""] * 9, source, kind, cui, text, "", suppress, "4096"]
    return "|".join(fields) + "|\n"


def rel(first: str, name: str, second: str) -> str:
    fields = [first, "", "CUI", "RN", second, "", "CUI", name, "", "", "RXNORM", "RXNORM"]
    return "|".join(fields) + "|\n"


RXNORM: Files = {
    "rrf/RXNCONSO.RRF": conso("161", "IN", "acetaminophen")
    + conso("161", "SY", "paracetamol")
    + conso("161", "IN", "Acetaminophen of others", source="MTHSPL")
    + conso("313782", "SCD", "acetaminophen 325 MG Oral Tablet")
    + conso("9", "BN", "Gone", "O"),
    "rrf/RXNREL.RRF": rel("161", "has_ingredient", "313782")
    + rel("313782", "ingredient_of", "161"),
}
TABLE = (
    "code,display,definition,parent,inactive,display:uk,colour\n"
    "w,Ward,A ward,,,Палата,\n"
    'icu,"Intensive care, adult",,w,false,Реанімація,red\n'
    "old,Old ward,,w,true,,\n"
)
OWN = {
    "resourceType": "CodeSystem",
    "url": "urn:example:own",
    "status": "active",
    "content": "complete",
    "concept": [{"code": "a", "display": "A", "concept": [{"code": "b"}]}],
}
NOTHING = Wanted()
OWN_URL = Wanted("urn:example:wards", "3")


def folder(place: Path, files: Files) -> Path:
    for name, content in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, "utf-8", newline="")
    return place


def archive(place: Path, files: Files, name: str) -> Path:
    path = place / name
    with zipfile.ZipFile(path, "w") as packed:
        for member, content in files.items():
            packed.writestr(member, content)
    return path


def imported(
    tmp_path: Path, format_: str, source: Path, wanted: Wanted = NOTHING
) -> tuple[dict[str, Any], Filed]:
    target = tmp_path / "concepts"
    told: list[int] = []
    found, count = build(format_, source, wanted, target, told.append)
    assert told[-1] == count
    return found, Filed(target)


def test_snomed_ct(tmp_path: Path) -> None:
    found, concepts = imported(tmp_path, "snomed-ct", archive(tmp_path, SNOMED, "rel.zip"))
    assert found["url"] == "http://snomed.info/sct"
    assert found["version"] == f"http://snomed.info/sct/{CORE}/version/20250101"
    assert concepts.display("233604007") == 'Pneumonia "proper"'
    assert concepts.display("404684003") == "Clinical finding"
    assert concepts.above("233604007") == {"233604007", "404684003", "138875005"}
    assert concepts.children("404684003") == ("233604007",)
    assert concepts.inactive("1") and not concepts.inactive("233604007")
    assert concepts.bearing("363698007", "39607008") == {"233604007"}
    assert concepts.bearing("sufficientlyDefined", "true") == {"233604007"}
    names = {one["value"] for one in concepts.by_code["233604007"]["designation"]}
    assert names == {"Pneumonia (disorder)", "Pneumonitis of lung", 'Pneumonia "proper"'}
    assert list(concepts.sought(["pneumonit", "lung"])) == ["233604007"]


def test_loinc(tmp_path: Path) -> None:
    source = archive(tmp_path, LOINC, "Loinc_2.77.zip")
    found, concepts = imported(tmp_path, "loinc", source)
    assert (found["url"], found["version"]) == ("http://loinc.org", "2.77")
    assert concepts.display("4548-4") == "Hemoglobin A1c in Blood"
    assert concepts.find("la33-6") == "LA33-6" and concepts.parents("LA33-6") == ("LL1",)
    assert concepts.bearing("COMPONENT", "Hemoglobin A1c") == {"4548-4"}
    assert concepts.below("LP1-1") == {"LP1-1", "4548-4"}
    assert concepts.inactive("1-8") and not concepts.inactive("4548-4")
    assert list(concepts.sought(["hba1c"])) == ["4548-4"]


def test_icd_10(tmp_path: Path) -> None:
    source = folder(tmp_path / "icd", {"icd102019.xml": CLAML})
    found, concepts = imported(tmp_path, "icd-10", source / "icd102019.xml")
    assert (found["url"], found["version"]) == ("http://hl7.org/fhir/sid/icd-10", "2019")
    assert concepts.display("I") == "Certain infectious diseases"
    assert concepts.below("I") == {"I", "A00-A09", "A00"}
    assert concepts.by_code["A00"]["designation"] == [{"value": "Blue death", "language": "en"}]
    assert concepts.bearing("kind", "category") == {"A00"} == concepts.bearing("usage", "dagger")


def test_icd_10_cm(tmp_path: Path) -> None:
    found, concepts = imported(tmp_path, "icd-10-cm", folder(tmp_path / "cm", CM))
    assert (found["url"], found["version"]) == ("http://hl7.org/fhir/sid/icd-10-cm", "2025")
    assert list(concepts.by_code) == ["A00", "A00.0", "A01", "A01.0", "A01.00"]
    assert concepts.parents("A01.00") == ("A01.0",) and concepts.parents("A01") == ()
    assert concepts.display("A00.0") == "Cholera due to Vibrio cholerae 01"
    assert concepts.abstract("A01.0") and not concepts.abstract("A01.00")


def test_icd_10_cm_from_its_tabular_list(tmp_path: Path) -> None:
    found, concepts = imported(tmp_path, "icd-10-cm", folder(tmp_path / "cm", TABULAR))
    assert (found["url"], found["version"]) == ("http://hl7.org/fhir/sid/icd-10-cm", "2026")
    filled = ["S00.0XXA", "S00.0XXD"]
    assert list(concepts.by_code) == [
        "S00",
        "S00.0",
        *filled,
        "S06.1X7",
        "S06.1X7A",
        "S09",
        "S09.0",
    ]
    assert concepts.display("S00.0XXA") == "Injury of scalp, initial encounter"
    assert concepts.below("S00") == {"S00", "S00.0", *filled}
    assert concepts.by_code["S00.0"]["designation"] == [{"value": "Bump"}]
    abstract = [code for code in concepts.by_code if concepts.abstract(code)]
    assert abstract == ["S00", "S00.0", "S06.1X7", "S09"]
    both = folder(tmp_path / "both", {**TABULAR, **CM})
    assert imported(tmp_path / "both", "icd-10-cm", both)[0]["version"] == "2025"


def test_rxnorm(tmp_path: Path) -> None:
    source = archive(tmp_path, RXNORM, "RxNorm_full_01062025.zip")
    found, concepts = imported(tmp_path, "rxnorm", source)
    assert found["version"] == "01062025"
    assert concepts.display("161") == "acetaminophen"
    assert concepts.by_code["161"]["designation"] == [{"value": "paracetamol"}]
    assert concepts.bearing("has_ingredient", "161") == {"313782"}
    assert concepts.inactive("9") and concepts.bearing("TTY", "SCD") == {"313782"}


def test_a_table(tmp_path: Path) -> None:
    source = folder(tmp_path / "own", {"wards.csv": "\ufeff" + TABLE}) / "wards.csv"
    found, concepts = imported(tmp_path, "csv", source, OWN_URL)
    assert (found["url"], found["version"], found["name"]) == (
        "urn:example:wards",
        "3",
        "urn_example_wards",
    )
    assert concepts.below("w") == {"w", "icu", "old"} and concepts.inactive("old")
    assert concepts.display("icu", "uk") == "Реанімація"
    assert concepts.bearing("colour", "red") == {"icu"}
    assert list(concepts.sought(["реан"])) == ["icu"]


def test_a_resource(tmp_path: Path) -> None:
    bundle = {"resourceType": "Bundle", "entry": [{"resource": OWN}]}
    for number, resource in enumerate((OWN, bundle)):
        place = tmp_path / str(number)
        source = folder(place, {"own.json": json.dumps(resource)}) / "own.json"
        _, concepts = imported(place, "fhir", source)
        assert concepts.below("a") == {"a", "b"}


BROKEN: list[tuple[str, Files, Wanted, str]] = [
    ("snomed-ct", {"Rel/Snapshot/Terminology/other.txt": ""}, Wanted(), "is not in it"),
    ("snomed-ct", {**SNOMED, next(iter(SNOMED)): "id\tactive\r\n1\t1\r\n"}, Wanted(), "column"),
    ("loinc", LOINC, Wanted(), "state it"),
    ("loinc", {"Loinc.csv": '"LOINC_NUM"\n"1-8"\n'}, Wanted("", "2"), "LONG_COMMON_NAME"),
    ("icd-10", {"a.xml": "<ClaML>"}, Wanted(), "a.xml"),
    ("icd-10", {"a.xml": '<!DOCTYPE x [<!ENTITY e "e">]><x>&e;</x>'}, Wanted(), "entities"),
    ("icd-10-cm", {"icd10cm_order_2025.txt": "words\n"}, Wanted(), "line 1"),
    ("icd-10-cm", {"other.txt": "A00"}, Wanted(), "tabular_YYYY.xml, is not in it"),
    (
        "icd-10-cm",
        {"icd10cm_tabular_2026.xml": "<a><chapter><section><diag/></section></chapter></a>"},
        Wanted(),
        "without a name",
    ),
    ("rxnorm", {"RXNCONSO.RRF": "1|ENG|\n"}, Wanted("", "1"), "line 1"),
    ("csv", {"a.csv": TABLE}, Wanted(), "state the url"),
    ("csv", {"a.csv": "display\nA\n"}, Wanted("u"), "column code"),
    ("csv", {"a.csv": "code,display\na\n"}, Wanted("u"), "as long as the heading"),
    ("csv", {"a.csv": "code\na\na\n"}, Wanted("u"), "twice: a"),
    ("fhir", {"a.json": "{"}, Wanted(), "a.json"),
    ("fhir", {"a.json": json.dumps(OWN | {"content": "fragment"})}, Wanted(), "complete"),
    ("fhir", {"a.json": "{}"}, Wanted(), "not exactly one"),
]


@pytest.mark.parametrize(("format_", "files", "wanted", "told"), BROKEN)
def test_what_is_no_release_is_refused(
    tmp_path: Path, format_: str, files: Files, wanted: Wanted, told: str
) -> None:
    with pytest.raises(Refused, match=told):
        build(format_, folder(tmp_path / "in", files), wanted, tmp_path / "out", lambda _: None)
    assert not (tmp_path / "out").exists()


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path, LOINC, "Loinc_2.77.zip")
    path.write_bytes(path.read_bytes().replace(b"Hemoglobin", b"Hemoglobim"))
    with pytest.raises(Refused, match="Bad CRC"):
        build("loinc", path, Wanted(), tmp_path / "out", lambda _: None)


def test_links_of_a_folder_are_not_followed(tmp_path: Path) -> None:
    outside = folder(tmp_path / "outside", {"a.csv": TABLE}) / "a.csv"
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").symlink_to(outside)
    with pytest.raises(Refused, match="is not in it"):
        build("csv", tmp_path / "in", OWN_URL, tmp_path / "out", lambda _: None)


def test_every_format_is_tried() -> None:
    assert {row[0] for row in BROKEN} == set(READERS)
