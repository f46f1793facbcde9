"""T07: hostile XML through HTTP is refused within a second, without looking outside."""

from __future__ import annotations

import time

import pytest

from tests.serving import Server, issue

NS = 'xmlns="http://hl7.org/fhir"'
XML = {"content-type": "application/fhir+xml", "accept": "application/fhir+json"}
LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
HOSTILE = {
    "DTD": f"<!DOCTYPE Patient><Patient {NS}/>",
    "external DTD": f'<!DOCTYPE Patient SYSTEM "http://127.0.0.1:9/x"><Patient {NS}/>',
    "external entity": '<!DOCTYPE p [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    f'<Patient {NS}><id value="&x;"/></Patient>',
    "parameter entity": '<!DOCTYPE p [<!ENTITY % x SYSTEM "http://127.0.0.1:9/x">%x;]>'
    f"<Patient {NS}/>",
    "billion laughs": f'<!DOCTYPE p [<!ENTITY l0 "ha">{LAUGHS}]>'
    f'<Patient {NS}><id value="&l9;"/></Patient>',
    "deep": f"<Patient {NS}>" + "<extension>" * 100_000,
    "attributes": f"<Patient {NS}>" + "<id " + " ".join(f'a{n}="1"' for n in range(100_000)),
    "attributes, closed": f"<Patient {NS}>"
    + "<id "
    + " ".join(f'a{n}="1"' for n in range(100_000))
    + "/></Patient>",
    "not closed": f"<Patient {NS}><id",
    "two roots": f"<Patient {NS}/><Patient {NS}/>",
    "an undeclared entity": f'<Patient {NS}><id value="&nbsp;"/></Patient>',
    "NUL": f'<Patient {NS}><id value="a\0"/></Patient>',
    "nothing": "",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_t07_hostile_xml(server: Server, name: str) -> None:
    started = time.monotonic()
    answer = server.send("POST", "Patient", content=HOSTILE[name].encode(), headers=XML)
    assert answer.status_code == 400, answer.text[:300]
    assert time.monotonic() - started < 1
    issue(answer)
    assert "root:" not in answer.text
    assert server.get("Patient").json()["total"] == 0


def test_t07_xinclude_is_an_unknown_element(server: Server) -> None:
    text = (
        f'<Patient {NS}><xi:include xmlns:xi="http://www.w3.org/2001/XInclude" '
        'href="file:///etc/passwd" parse="text"/></Patient>'
    )
    answer = server.send("POST", "Patient", content=text.encode(), headers=XML)
    assert answer.status_code in (400, 422) and "root:" not in answer.text


def test_t07_narrative_in_json_is_no_xml_parser_either(server: Server) -> None:
    for doctype in ("<!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>", "<!DOCTYPE d>"):
        div = f'{doctype}<div xmlns="http://www.w3.org/1999/xhtml">&x;</div>'
        body = {"resourceType": "Patient", "text": {"status": "generated", "div": div}}
        answer = server.post("Patient", body)
        assert answer.status_code == 422 and "root:" not in answer.text
