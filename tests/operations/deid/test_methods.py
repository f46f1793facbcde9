"""The methods that change values: what each gives, and that it gives it again.

Expectations follow the description of Microsoft's Tools for Health Data Anonymization
(docs/FHIR-anonymization.md) where a method is theirs.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

from fhir_server.definitions.registry import load
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest
from operations.deid.engine import Deidentifier
from operations.deid.keys import ProjectKey
from operations.deid.profile import ProfileError, parse
from operations.deid.run import Run
from operations.deid.transforms.dates import shift_of

KEY = ProjectKey("study", 1, b"k" * 32)
OTHER = ProjectKey("study", 2, b"o" * 32)


def made(*rules: dict[str, Any], **parameters: Any) -> Deidentifier:
    document = {"fhirPathRules": list(rules), "parameters": parameters}
    return Deidentifier(parse("test", document), load())


def applied(
    rule: dict[str, Any], resource: Json, key: ProjectKey | None = KEY, **parameters: Any
) -> Json:
    result = made(rule, **parameters).resource(resource, Run(2026, key=key))
    result.pop("meta", None)
    return result


def rule(path: str, method: str, **more: Any) -> dict[str, Any]:
    return {"path": path, "method": method, **more}


PATIENT: Json = {
    "resourceType": "Patient",
    "id": "p1",
    "birthDate": "1982-03-25",
    "deceasedDateTime": "2020-01-31T10:00:00+02:00",
    "address": [{"city": "Springfield", "postalCode": "98052", "country": "US"}],
}


def observation(**more: Any) -> Json:
    return {
        "resourceType": "Observation",
        "id": "o1",
        "subject": {"reference": "Patient/p1"},
    } | more


def test_what_no_rule_names_stays_in_a_file_of_theirs() -> None:
    assert applied(rule("Patient.address", "redact"), PATIENT)["birthDate"] == "1982-03-25"


def test_mask() -> None:
    masked = rule("Patient.address.city", "mask", keepFirst=2, keepLast=1)
    assert applied(masked, PATIENT)["address"][0]["city"] == "Sp********d"
    short = PATIENT | {"address": [{"city": "Rio"}]}
    assert applied(masked, short)["address"][0]["city"] == "***"


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ("98052", "98000"),
        ("98052-1234", "98000-0000"),
        ("03601", "00000"),
        ("1000", None),
        ("SW1A 1AA", None),
    ],
)
def test_partial_zip_codes(given: str, left: str | None) -> None:
    source = PATIENT | {"address": [{"postalCode": given}]}
    answer = applied(
        rule("nodesByType('Address')", "redact"),
        source,
        enablePartialZipCodesForRedact=True,
        restrictedZipCodeTabulationAreas=["036"],
    )
    assert answer.get("address") == (None if left is None else [{"postalCode": left}])


def test_partial_dates_and_ages() -> None:
    dates = rule("nodesByType('date')", "redact")
    assert applied(dates, PATIENT, enablePartialDatesForRedact=True)["birthDate"] == "1982"
    old = PATIENT | {"birthDate": "1930-03-25"}
    assert "birthDate" not in applied(dates, old, enablePartialDatesForRedact=True)
    assert "birthDate" not in applied(dates, PATIENT)
    ages = rule("nodesByType('Age')", "redact")
    for years, stays in ((89, True), (90, False)):
        onset = {"value": years, "system": "http://unitsofmeasure.org", "code": "a"}
        source = {"resourceType": "Condition", "onsetAge": onset}
        answer = applied(ages, source, enablePartialAgesForRedact=True)
        assert ("onsetAge" in answer) is stays


def test_shift_is_the_same_for_a_patient_and_within_fifty_days() -> None:
    both = rule("nodesByType('date') | nodesByType('dateTime')", "dateShift", time="keep")
    both["dateShiftScope"] = "patient"
    first = applied(both, PATIENT)
    moved = date.fromisoformat(first["birthDate"]) - date(1982, 3, 25)
    assert 1 <= abs(moved.days) <= 50
    died = first["deceasedDateTime"]
    assert date.fromisoformat(died[:10]) - date(2020, 1, 31) == moved
    assert died[10:] == "T10:00:00+02:00"
    seen = applied(both, observation(effectiveDateTime="2020-01-31"))["effectiveDateTime"]
    assert date.fromisoformat(seen) - date(2020, 1, 31) == moved
    assert applied(both, PATIENT) == first
    assert shift_of(OTHER.derive("shift"), "Patient/p1") != shift_of(
        OTHER.derive("shift"), "Patient/p2"
    )


def test_every_shift_is_possible_but_none_at_all() -> None:
    found = {shift_of(b"key", f"Patient/{n}", 5) for n in range(500)}
    assert found == set(range(-5, 6)) - {0}


def test_their_shift_takes_the_time_and_keeps_the_zone() -> None:
    theirs = rule("nodesByType('dateTime')", "dateshift")
    parameters = {"dateShiftKey": "123", "dateShiftScope": "resource"}
    answer = applied(theirs, PATIENT, None, **parameters)
    assert answer["deceasedDateTime"][10:] == "T00:00:00+02:00"
    assert applied(theirs, PATIENT, None, **parameters) == answer
    for partial, left in ((False, None), (True, "2019")):
        source = PATIENT | {"deceasedDateTime": "2019-05"}
        given = parameters | {"enablePartialDatesForRedact": partial}
        assert applied(theirs, source, None, **given).get("deceasedDateTime") == left
    fixed = parameters | {"dateShiftFixedOffsetInDays": -1}
    assert applied(theirs, PATIENT, None, **fixed)["deceasedDateTime"][:10] == "2020-01-30"


def test_hashes_lead_to_each_other() -> None:
    """HMAC-SHA256 in hexadecimal, of the id alone."""
    rules = [
        rule("Resource.id", "cryptoHash"),
        rule("nodesByType('Reference').reference", "cryptoHash"),
    ]
    hashing = made(*rules, cryptoHashKey="123")
    expected = hmac.new(b"123", b"p1", hashlib.sha256).hexdigest()
    assert hashing.resource(PATIENT, Run(2026))["id"] == expected
    seen = hashing.resource(observation(), Run(2026))
    assert seen["subject"]["reference"] == f"Patient/{expected}"
    within = observation(
        contained=[{"resourceType": "Device", "id": "d"}], device={"reference": "#d"}
    )
    result = hashing.resource(within, Run(2026))
    assert result["device"]["reference"] == "#" + result["contained"][0]["id"]


@pytest.mark.parametrize("key", ["k" * 16, "k" * 24, "k" * 32])
def test_encrypted_can_be_decrypted(key: str) -> None:
    city = rule("nodesByType('Address').city", "encrypt")
    answer = applied(city, PATIENT, None, encryptKey=key)["address"][0]["city"]
    raw = b64decode(answer)
    cipher = Cipher(AES(key.encode()), CBC(raw[:16])).decryptor()
    remover = PKCS7(128).unpadder()
    plain = remover.update(cipher.update(raw[16:]) + cipher.finalize()) + remover.finalize()
    assert plain == b"Springfield"
    assert applied(city, PATIENT, None, encryptKey=key)["address"][0]["city"] == answer
    elsewhere = applied(city, PATIENT | {"id": "p2"}, None, encryptKey=key)
    assert elsewhere["address"][0]["city"] != answer


def test_perturb() -> None:
    value = {"value": Decimal(100), "unit": "mg/dL"}
    noise = rule("Observation.value as Quantity", "perturb", span=10, roundTo=1)
    answer = applied(noise, observation(valueQuantity=value))["valueQuantity"]
    assert answer["unit"] == "mg/dL" and 95 <= answer["value"] <= 105
    assert answer["value"].as_tuple().exponent == -1
    assert applied(noise, observation(valueQuantity=value))["valueQuantity"] == answer
    assert applied(noise, observation(valueQuantity=value), OTHER)["valueQuantity"] != answer
    share = rule("Observation.value as integer", "perturb", span=0.2, rangeType="Proportional")
    seen = {
        applied(share, observation(id=f"o{n}", valueInteger=100))["valueInteger"]
        for n in range(200)
    }
    assert {type(v) for v in seen} == {int} and min(seen) >= 90 and max(seen) <= 110
    assert len(seen) > 10


def test_generalize() -> None:
    cases = {"$this in ('en-AU' | 'en-GB')": "'en'", "('es-AR' | 'es-ES') contains $this": "'es'"}
    language = "Patient.communication.language.coding.code"
    spoken: Json = {
        "resourceType": "Patient",
        "communication": [
            {"language": {"coding": [{"code": c}]}} for c in ("en-GB", "es-ES", "uk")
        ],
    }
    for others in ("keep", "redact"):
        answer = applied(rule(language, "generalize", cases=cases, otherValues=others), spoken)
        codes = [c["language"]["coding"][0]["code"] for c in answer["communication"][:2]]
        assert codes == ["en", "es"]
        assert ("uk" in str(answer["communication"])) is (others == "keep")
    born = {"$this >= @1980-01-01 and $this <= @1990-01-01": "@1985"}
    assert applied(rule("Patient.birthDate", "generalize", cases=born), PATIENT)["birthDate"] == (
        "1985"
    )
    tens = {"true": "($this div 10)*10"}
    number = rule("Observation.value as integer", "generalize", cases=tens)
    assert applied(number, observation(valueInteger=18))["valueInteger"] == 10
    post = {"$this.startsWith('980')": "$this.substring(0,2)+'****'"}
    code = rule("Patient.address.postalCode", "generalize", cases=post)
    assert applied(code, PATIENT)["address"][0]["postalCode"] == "98****"


def test_pseudonyms_are_the_same_for_a_project_and_its_key_alone() -> None:
    rules = [rule("nodesByType('id')", "pseudonym"), rule("nodesByType('Reference')", "pseudonym")]
    naming = made(*rules)
    patient = naming.resource(PATIENT, Run(2026, key=KEY))["id"]
    seen = naming.resource(observation(), Run(2026, key=KEY, relative=True))
    assert seen["subject"]["reference"] == f"Patient/{patient}"
    assert naming.resource(PATIENT, Run(2026, key=OTHER))["id"] != patient
    run = Run(2026, key=KEY)
    naming.resource(observation(), run)
    assert dict(run.issued)["Patient/p1"] == patient and set(run.issued) == {
        "Patient/p1",
        "Observation/o1",
    }
    with pytest.raises(BadRequest):
        naming.resource(PATIENT, Run(2026))


def test_free_text_goes_where_nobody_cleans_it() -> None:
    notes = rule("nodesByType('Annotation')", "cleanText")
    assert "note" not in applied(notes, observation(note=[{"text": "Garza called"}]))


def test_theirs_in_all_its_forms_loads() -> None:
    """Unions, brackets, resource types as nodes, rules that name no element of R4."""
    rules = [
        rule("nodesByType('Address').country | nodesByType('Address').state", "keep"),
        rule("(nodesByType('Observation').value as Quantity).value", "perturb", span=0.2),
        rule("Condition.onset | Condition.abatement as Age", "redact"),
        rule("nodesByType('Observation').ofType(Quantity).unit", "redact"),
        rule("HealthcareService.notAvaliable.description", "redact"),
        rule("nodesByType('ContactPoint').where(use='home')", "redact"),
        rule("nodesByType('Address')", "redact"),
    ]
    document = {"fhirVersion": "", "processingErrors": "skip", "fhirPathRules": rules}
    deidentifier = Deidentifier(parse("theirs", document), load())
    assert deidentifier.resource(PATIENT, Run(2026))["address"] == [{"country": "US"}]
    value = {"value": Decimal(5), "unit": "Garza"}
    seen = deidentifier.resource(observation(valueQuantity=value), Run(2026))
    assert "unit" not in seen["valueQuantity"] and "value" in seen["valueQuantity"]


@pytest.mark.parametrize(
    ("fault", "bad"),
    [
        ("span is a number", rule("Patient.multipleBirth as integer", "perturb")),
        ("span is a number", rule("Patient.multipleBirth as integer", "perturb", span=-1)),
        ("roundTo", rule("Patient.multipleBirth as integer", "perturb", span=1, roundTo=29)),
        ("rangeType", rule("Patient.multipleBirth as integer", "perturb", span=1, rangeType="x")),
        ("cases", rule("Patient.birthDate", "generalize")),
        ("cases", rule("Patient.birthDate", "generalize", cases={"$this >": "1"})),
        (
            "otherValues",
            rule("Patient.birthDate", "generalize", cases={"true": "1"}, otherValues="x"),
        ),
        ("encryptKey", rule("Patient.address.city", "encrypt", encryptKey="short")),
        ("dateShiftScope", rule("Patient.birthDate", "dateShift", dateShiftScope="world")),
        ("days is", rule("Patient.birthDate", "dateShift", days=0)),
        ("with is one", rule("Patient.address.city", "mask", **{"with": ""})),
    ],
)
def test_bad_parameters_do_not_load(fault: str, bad: dict[str, Any]) -> None:
    with pytest.raises(ProfileError, match=fault):
        made(bad)
