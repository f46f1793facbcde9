"""Cleaning: narratives stay well-formed, attachments keep their type, nothing known leaves."""

from __future__ import annotations

import base64
import xml.dom.minidom

import pytest

from fhir_server.model.problem import Unavailable, Unprocessable
from operations.deid.text.cleaner import Cleaner
from operations.deid.text.contract import Settings

KEY = b"k" * 32
PATIENT = {
    "resourceType": "Patient",
    "id": "1",
    "gender": "male",
    "name": [{"family": "Шевченко", "given": ["Тарас"]}],
    "birthDate": "1970-03-12",
}
NOTE = "Оглянуто Шевченком Т.Г., 12.03.1970; тел. 067 123 45 67. Shevchenko's ECG. Шевченку краще."
DIV = (
    '<div xmlns="http://www.w3.org/1999/xhtml"><p title="Шевченко">Пан <b>Шев</b>ченко&nbsp;&amp; '
    'син</p><img src="x" alt="Тарас"/> народ. 12.03.1970<!-- Тарас --></div>'
)


def noted(text):
    return {"resourceType": "Observation", "status": "final", "code": {}, "note": [{"text": text}]}


def with_text(div):
    return {"resourceType": "Basic", "text": {"status": "generated", "div": div}}


def attached(type_, text, charset="utf-8"):
    attachment = {"contentType": type_, "data": base64.b64encode(text.encode(charset)).decode()}
    return {
        "resourceType": "DocumentReference",
        "status": "current",
        "content": [{"attachment": attachment | {"url": "http://x/Шевченко", "title": "Шевченко"}}],
    }


async def prepared(cleaner, *resources, **settings):
    return await cleaner.prepare([PATIENT, *resources], Settings(KEY, **settings))


async def test_tags(cleaner):
    cleaning = await prepared(cleaner, noted(NOTE))
    assert cleaning.plain(NOTE) == (
        "Оглянуто [NAME], 1970; тел. [PHONE]. [NAME] ECG. [NAME] краще."
    )


async def test_the_same_name_gets_the_same_surrogate_in_its_case(cleaner):
    cleaning = await prepared(cleaner, noted(NOTE), style="surrogate", dates="tag")
    clean = cleaning.plain(NOTE, "Patient/1")
    assert "Шевченк" not in clean and "067 123 45 67" not in clean and "[DATE]" in clean
    stem = clean.split()[1][:4]
    assert clean.count(stem) == 2
    assert clean.split()[1].endswith("ом")
    again = await prepared(cleaner, noted(NOTE), style="surrogate", dates="tag")
    assert again.plain(NOTE, "Patient/1") == clean
    assert again.plain(NOTE, "Patient/2") != clean
    other = await cleaner.prepare(
        [PATIENT, noted(NOTE)], Settings(b"o" * 32, style="surrogate", dates="tag")
    )
    assert other.plain(NOTE, "Patient/1") != clean


async def test_dates_move_by_the_days_of_their_subject(cleaner):
    text = "Операція 05.04.2021, огляд 7 квітня 2021 р., далі у травні 2021"
    cleaning = await prepared(cleaner, noted(text), dates="shift", shift=lambda subject: -4)
    assert cleaning.plain(text) == "Операція 2021-04-01, огляд 2021-04-03, далі у [DATE]"


async def test_a_date_is_not_moved_onto_a_birth_date(cleaner):
    text = "огляд 13.03.1970"
    cleaning = await prepared(cleaner, noted(text), dates="shift", shift=lambda subject: -1)
    assert cleaning.plain(text) == "огляд 1970"


async def test_a_birth_date_is_not_moved_but_goes_to_the_year(cleaner):
    text = "нар. 12.03.1970"
    cleaning = await prepared(cleaner, noted(text), dates="shift", shift=lambda subject: 30)
    assert cleaning.plain(text) == "нар. 1970"


async def test_a_narrative_stays_well_formed(cleaner):
    cleaning = await prepared(cleaner, with_text(DIV))
    clean = cleaning.xhtml(DIV)
    xml.dom.minidom.parseString(clean)
    assert clean == (
        '<div xmlns="http://www.w3.org/1999/xhtml"><p>Пан <b>[NAME]</b>\u00a0&amp; син</p>'
        " народ. 1970</div>"
    )


async def test_a_narrative_that_is_not_well_formed_stops_all(cleaner):
    with pytest.raises(Unprocessable):
        await prepared(cleaner, with_text("<div><p></div>"))


@pytest.mark.parametrize("charset", ["utf-8", "windows-1251"])
async def test_attachments_of_text(cleaner, charset):
    resource = attached(
        f"text/plain; charset={charset}", "Пан Шевченко, тел. 067 123 45 67", charset
    )
    given = resource["content"][0]["attachment"]
    cleaning = await prepared(cleaner, resource)
    clean = cleaning.attachment(given)
    text = base64.b64decode(clean["data"]).decode()
    assert text == "Пан [NAME], тел. [PHONE]"
    assert clean["contentType"] == "text/plain; charset=utf-8"
    assert clean["size"] == len(text.encode())
    assert clean["title"] == "[NAME]" and "url" not in clean


async def test_attachments_of_html(cleaner):
    head = "<head><title>x</title><script>Шевченко</script></head>"
    source = f"<html>{head}<body><p>Шевченку<br>так</body>"
    resource = attached("text/html", source)
    cleaning = await prepared(cleaner, resource)
    clean = cleaning.attachment(resource["content"][0]["attachment"])
    text = base64.b64decode(clean["data"]).decode()
    assert "<p>[NAME]<br>так</p>" in text and "Шевченк" not in text


async def test_attachments_of_other_types_lose_their_data(cleaner):
    resource = attached("application/pdf", "Шевченко")
    cleaning = await prepared(cleaner, resource)
    clean = cleaning.attachment(resource["content"][0]["attachment"])
    assert clean == {"contentType": "application/pdf", "title": "[NAME]"}


async def test_data_that_cannot_be_decoded_stops_all(cleaner):
    resource = attached("text/plain", "x")
    resource["content"][0]["attachment"]["data"] = "/////w=="
    with pytest.raises(Unprocessable):
        await prepared(cleaner, resource)


LEFT = [
    noted("про Шевченка"),
    noted("born 12/03/1970"),
    with_text('<div xmlns="http://www.w3.org/1999/xhtml">Ше<i>вченко</i></div>'),
    attached("text/plain", "Taras"),
]


@pytest.mark.parametrize("resource", LEFT)
async def test_what_is_left_stops_all_and_is_not_repeated(cleaner, resource):
    cleaning = await prepared(cleaner, resource)
    with pytest.raises(Unprocessable) as refusal:
        cleaning.check(resource)
    for word in ("Шевченк", "1970", "вченко", "Taras"):
        assert word not in str(refusal.value)


async def test_what_is_clean_passes(cleaner):
    for style in ("tag", "surrogate"):
        resource = noted(NOTE)
        cleaning = await prepared(cleaner, resource, style=style)
        cleaning.check(noted(cleaning.plain(NOTE, "Patient/1")))


async def test_a_town_that_the_profile_keeps_stops_nothing(cleaner):
    patient = PATIENT | {"address": [{"city": "Київ", "postalCode": "01001"}]}
    cleaning = await cleaner.prepare([patient], Settings(KEY))
    cleaning.check(
        {"resourceType": "Patient", "address": [{"city": "Київ", "postalCode": "01001"}]}
    )
    with pytest.raises(Unprocessable):
        cleaning.check(noted("мешкає у Києві"))


async def test_a_pseudonym_is_no_name_and_no_number(cleaner):
    """Whatever people are called and whatever figures it begins with; an id that stayed is left."""
    code = "9f95bc7f-bd67-8c79-9076-0217cd4ddd63"
    told = {"name": [{"family": "Patient"}], "identifier": [{"value": "Patient/9"}, {"value": "9"}]}
    observation = {"resourceType": "Observation", "id": code}
    references = [f"Patient/{code}", f"urn:uuid:{code}"]
    cleaning = await cleaner.prepare([PATIENT | told], Settings(KEY))
    for reference in references:
        cleaning.check(observation | {"subject": {"reference": reference}})
    told["identifier"] = [{"value": code}]
    cleaning = await cleaner.prepare([PATIENT | told], Settings(KEY))
    for reference in references:
        with pytest.raises(Unprocessable):
            cleaning.check({"resourceType": "Observation", "subject": {"reference": reference}})


async def test_a_text_that_was_not_prepared_is_not_cleaned(cleaner):
    cleaning = await prepared(cleaner)
    with pytest.raises(Unprocessable):
        cleaning.plain("Anything")


async def test_without_the_model_nothing_is_cleaned(elements, cleaner):
    class Down:
        async def tag(self, texts):
            raise Unavailable("down")

    with pytest.raises(Unavailable):
        await prepared(Cleaner(Down(), cleaner._lexicon, elements), noted(NOTE))


async def test_diseases_keep_their_names(cleaner):
    for text in ("Хвороба Паркінсона", "Dr. Parkinson's disease", "Ms Bell palsy"):
        cleaning = await prepared(cleaner, noted(text))
        assert cleaning.plain(text) == text
