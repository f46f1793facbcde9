"""Rules for free text and whoever cleans it: what is asked, and that nothing leaves without."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import pytest

from fhir_server.model.exchange import Json
from fhir_server.model.problem import Unavailable, Unprocessable
from operations.anonymize import bundle
from operations.deid.engine import Deidentifier, profiles
from operations.deid.keys import ProjectKey
from operations.deid.run import Run
from operations.deid.text.contract import Settings

SECRET = "Garza"
DIV = '<div xmlns="http://www.w3.org/1999/xhtml">Garza came</div>'


@dataclass
class Words:
    """Knows one name. ``left``: what it finds in the end."""

    settings: Settings
    left: str = "never"
    subjects: set[str] = field(default_factory=set)

    def plain(self, text: str, subject: str = "") -> str:
        self.subjects.add(subject)
        return text.replace(SECRET, "[NAME]")

    xhtml = plain

    def attachment(self, attachment: Json, subject: str = "") -> Json:
        return {"contentType": attachment["contentType"]}

    def check(self, resource: Json) -> None:
        if self.left in str(resource):
            raise Unprocessable("an identifier is left")


@dataclass
class Cleaner:
    left: str = "never"
    up: bool = True
    made: list[Words] = field(default_factory=list)
    seen: list[Json] = field(default_factory=list)

    async def prepare(self, resources: Sequence[Json], settings: Settings) -> Words:
        if not self.up:
            raise Unavailable("the model is down")
        self.seen += resources
        self.made.append(Words(settings, self.left))
        return self.made[-1]


def profile(code: str) -> Deidentifier:
    return next(p for p in profiles() if p.profile.code == code)


PATIENT: Json = {"resourceType": "Patient", "id": "p", "name": [{"family": SECRET}]}


def observation(patient: str) -> Json:
    return {
        "resourceType": "Observation",
        "id": f"of-{patient}",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": f"Patient/{patient}"},
        "effectiveDateTime": "2020-05-06",
        "text": {"status": "generated", "div": DIV},
        "note": [{"text": "Garza called", "authorString": SECRET}],
        "valueString": "as Garza said",
    }


def answered(code: str, cleaner: Cleaner | None, *resources: Json) -> list[Json]:
    async def answer() -> Json:
        run = Run(2026, key=ProjectKey("study", 1, b"k" * 32))
        await profile(code).prepare(resources, run, cleaner)
        return await bundle(profile(code), resources, run, review=False)

    return [entry["resource"] for entry in asyncio.run(answer())["entry"][:-1]]


@pytest.mark.parametrize("code", ["research", "limited"])
def test_what_stays_of_text(code: str) -> None:
    cleaner = Cleaner()
    seen = answered(code, cleaner, PATIENT, observation("p"))[1]
    assert seen["note"] == [{"text": "[NAME] called"}]
    assert seen["valueString"] == "as [NAME] said"
    assert seen["text"] == {"status": "additional", "div": DIV.replace(SECRET, "[NAME]")}
    assert cleaner.made[0].subjects == {"Patient/p"} and PATIENT in cleaner.seen


def test_dates_in_words_move_as_the_others_do() -> None:
    cleaner = Cleaner()
    seen = answered("research", cleaner, PATIENT, observation("p"))[1]
    settings = cleaner.made[0].settings
    assert (settings.style, settings.dates) == ("surrogate", "shift") and settings.shift
    moved = date(2020, 5, 6) + timedelta(settings.shift("Patient/p"))
    assert seen["effectiveDateTime"] == moved.isoformat()


@pytest.mark.parametrize("patient", ["p", "unknown"])
def test_text_goes_where_nobody_cleans_it_or_knows_whose_it_is(patient: str) -> None:
    cleaner: Any = None if patient == "p" else Cleaner()
    seen = answered("research", cleaner, PATIENT, observation(patient))[1]
    assert not {"note", "text", "valueString"} & seen.keys()


def test_safe_harbor_asks_nobody() -> None:
    cleaner = Cleaner(up=False)
    assert "note" not in answered("safe-harbor", cleaner, PATIENT, observation("p"))[1]


def test_a_model_that_is_down_and_an_identifier_that_is_left_give_no_data() -> None:
    with pytest.raises(Unavailable):
        answered("research", Cleaner(up=False), PATIENT, observation("p"))
    with pytest.raises(Unprocessable):
        answered("research", Cleaner(left="came"), PATIENT, observation("p"))


@pytest.mark.parametrize("cleaner", [None, Cleaner()])
def test_a_section_keeps_something(cleaner: Cleaner | None) -> None:
    """cmp-1: a section has a text, entries or sections."""
    text = {"status": "generated", "div": DIV}
    composition: Json = {
        "resourceType": "Composition",
        "subject": {"reference": "Patient/p"},
        "section": [{"text": text}],
    }
    section = answered("research", cleaner, PATIENT, composition)[1]["section"][0]
    assert section["text"]["status"] == ("empty" if cleaner is None else "additional")
    assert SECRET not in str(section)
