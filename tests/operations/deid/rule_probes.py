"""What safe-harbor leaves of who somebody is: ids, names, places, texts, what invariants want."""

from __future__ import annotations

from rule_words import ANONYED, MASKED, REDACTED, coding

from fhir_server.formats.json import loads
from fhir_server.model.exchange import Json

# name -> (resource, what is left of it besides type and labels)
PROBES: dict[str, tuple[Json, Json]] = {
    "id": ({"resourceType": "Patient", "id": "mrn-1"}, {"id": "new-1"}),
    "versionId, lastUpdated, source, profile and tag go, security labels stay": (
        {
            "resourceType": "Basic",
            "meta": {
                "versionId": "77",
                "lastUpdated": "2020-02-03T04:05:06Z",
                "source": "http://h.example/x",
                "profile": ["http://h.example/p"],
                "tag": [coding("vip", "http://h.example/tags")],
                "security": [
                    coding("R", "http://terminology.hl7.org/CodeSystem/v3-Confidentiality")
                ],
            },
        },
        {
            "meta": {
                "security": [
                    coding("R", "http://terminology.hl7.org/CodeSystem/v3-Confidentiality")
                ]
            }
        },
    ),
    "fullUrl": (
        {
            "resourceType": "Bundle",
            "type": "collection",
            "entry": [
                {
                    "fullUrl": "http://h.example/Patient/1",
                    "resource": {"resourceType": "Patient", "id": "1"},
                }
            ],
        },
        {
            "type": "collection",
            "entry": [
                {
                    "fullUrl": "urn:uuid:new-1",
                    "resource": {
                        "resourceType": "Patient",
                        "id": "new-1",
                        "meta": {"security": [ANONYED, REDACTED]},
                    },
                }
            ],
        },
    ),
    "other ids: one code wherever the same id is": (
        {
            "resourceType": "ImagingStudy",
            "status": "available",
            "series": [{"uid": "2.25.1", "instance": [{"uid": "2.25.2"}]}, {"uid": "2.25.1"}],
        },
        {
            "status": "available",
            "series": [{"uid": "new-1", "instance": [{"uid": "new-2"}]}, {"uid": "new-1"}],
        },
    ),
    "contained and canonical fragments": (
        {
            "resourceType": "Questionnaire",
            "status": "active",
            "url": "http://h.example/q",
            "contained": [{"resourceType": "ValueSet", "id": "ward-7", "status": "active"}],
            "item": [
                {"linkId": "1.2", "type": "choice", "answerValueSet": "#ward-7"},
                {"linkId": "Mr Smith", "type": "choice", "answerValueSet": "http://h.example/v"},
            ],
        },
        {
            "status": "active",
            "contained": [{"resourceType": "ValueSet", "id": "c1", "status": "active"}],
            "item": [
                {"linkId": "1.2", "type": "choice", "answerValueSet": "#c1"},
                {"_linkId": MASKED, "type": "choice"},
            ],
        },
    ),
    "(A, D-H, Q) the person": (
        {
            "resourceType": "Patient",
            "identifier": [
                {"use": "official", "value": "123-45-6789", "period": {"start": "2001"}}
            ],
            "name": [{"use": "official", "family": "Garza"}],
            "telecom": [{"system": "phone", "value": "+380671234567", "rank": 1}],
            "photo": [{"contentType": "image/png", "size": 17, "hash": "YWJj"}],
            "contact": [{"gender": "male", "name": {"family": "Garza"}}],
            "text": {"status": "generated", "div": "<div>Garza</div>"},
            "gender": "female",
            "birthDate": "1982-03-25",
            "deceasedDateTime": "2021-03-04T05:06:07Z",
            "multipleBirthInteger": 2,
        },
        {
            "gender": "female",
            "birthDate": "1982",
            "deceasedDateTime": "2021",
            "multipleBirthInteger": 2,
        },
    ),
    "(C) over 89": (
        {"resourceType": "Patient", "active": True, "birthDate": "1930-05-06"},
        {"active": True, "_birthDate": MASKED},
    ),
    "(B) place": (
        {
            "resourceType": "Patient",
            "address": [
                {
                    "use": "home",
                    "line": ["25 Highland Avenue"],
                    "city": "Newburyport",
                    "district": "Essex",
                    "state": "MA",
                    "postalCode": "01950",
                    "country": "US",
                    "period": {"start": "2001-02-03"},
                },
                {"state": "Vermont", "postalCode": "05901-1234", "country": "US"},
                {"state": "Newburyport", "postalCode": "01001", "country": "UA"},
                {"postalCode": "01950", "country": "the house by the river"},
            ],
        },
        {
            "address": [
                {"state": "MA", "postalCode": "019", "country": "US"},
                {"state": "Vermont", "postalCode": "000", "country": "US"},
                {"country": "UA"},
            ]
        },
    ),
    "(B) geocodes": (
        {
            "resourceType": "Location",
            "status": "active",
            "position": {"longitude": loads(b'{"x":30.5238}')["x"], "latitude": 50},
        },
        {"status": "active"},
    ),
    "(M) device numbers": (
        {
            "resourceType": "Device",
            "status": "active",
            "udiCarrier": [{"entryType": "barcode", "deviceIdentifier": "0844588"}],
            "serialNumber": "SN-1",
            "lotNumber": "L-1",
            "manufactureDate": "2019-08-07",
        },
        {"status": "active", "manufactureDate": "2019"},
    ),
    "(P) sequences": (
        {"resourceType": "MolecularSequence", "coordinateSystem": 1, "observedSeq": "ACGT"},
        {"_coordinateSystem": MASKED},
    ),
    "signatures": (
        {
            "resourceType": "Provenance",
            "recorded": "2020-02-03T04:05:06Z",
            "signature": [{"when": "2020-02-03T04:05:06Z", "type": [coding("1", "urn:iso:1")]}],
        },
        {"_recorded": MASKED},
    ),
    "annotations": (
        {
            "resourceType": "Goal",
            "lifecycleStatus": "active",
            "note": [{"time": "2020-02-03", "text": "told her son", "authorString": "Dr. Who"}],
        },
        {"lifecycleStatus": "active"},
    ),
    "names that invariants want": (
        {
            "resourceType": "Organization",
            "identifier": [{"value": "1"}],
            "name": "ANNA JAQUES HOSPITAL",
        },
        {"identifier": [MASKED], "_name": MASKED},
    ),
    "a plan's name": (
        {"resourceType": "InsurancePlan", "name": "Gold", "status": "active"},
        {"_name": MASKED, "status": "active"},
    ),
    "a section's text": (
        {
            "resourceType": "Composition",
            "status": "final",
            "title": "Note on Ms Garza",
            "date": "2025-11-16T10:05:00Z",
            "section": [{"text": {"status": "generated", "div": "<div>41-year-old</div>"}}],
        },
        {
            "status": "final",
            "_title": MASKED,
            "date": "2025",
            "section": [
                {
                    "text": {
                        "status": "empty",
                        "div": '<div xmlns="http://www.w3.org/1999/xhtml">-</div>',
                    }
                }
            ],
        },
    ),
    "an appointment's time": (
        {
            "resourceType": "Appointment",
            "status": "booked",
            "start": "2020-02-03T04:05:06Z",
            "end": "2020-02-03T05:05:06Z",
            "participant": [{"actor": {"display": "Dr. Who"}, "status": "accepted"}],
        },
        {
            "status": "booked",
            "_start": MASKED,
            "_end": MASKED,
            "participant": [{"actor": MASKED, "status": "accepted"}],
        },
    ),
    "education": (
        {
            "resourceType": "Immunization",
            "status": "completed",
            "lotNumber": "L867",
            "occurrenceDateTime": "1978-04-12",
            "education": [{"documentType": "leaflet"}, {"reference": "http://h.example/1"}],
        },
        {
            "status": "completed",
            "occurrenceDateTime": "1978",
            "education": [{"_documentType": MASKED}, {"_reference": MASKED}],
        },
    ),
    "a consent's policy": (
        {
            "resourceType": "Consent",
            "status": "active",
            "policy": [{"uri": "http://h.example/p"}, {"authority": "http://h.example"}],
        },
        {"status": "active", "policy": [{"_uri": MASKED}, {"_authority": MASKED}]},
    ),
    "triggers": (
        {
            "resourceType": "EventDefinition",
            "status": "active",
            "trigger": [{"type": "named-event", "name": "Ms Garza comes"}],
        },
        {"status": "active", "trigger": [{"type": "named-event", "_name": MASKED}]},
    ),
    "a server": (
        {
            "resourceType": "CapabilityStatement",
            "status": "active",
            "software": {"name": "x"},
            "implementation": {"description": "y"},
        },
        {
            "status": "active",
            "software": {"_name": MASKED},
            "implementation": {"_description": MASKED},
        },
    ),
    "a terminology server": (
        {
            "resourceType": "TerminologyCapabilities",
            "status": "active",
            "software": {"name": "x"},
            "implementation": {"description": "y"},
        },
        {
            "status": "active",
            "software": {"_name": MASKED},
            "implementation": {"_description": MASKED},
        },
    ),
}
