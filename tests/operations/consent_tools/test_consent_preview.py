"""A preview is compared with what the server really shows to the person, resource by resource."""

from __future__ import annotations

import pytest

from operations.consenting.templates import TEMPLATES
from tests.operations.consent_tools.wards import GIVEN, PREVIEW, Ward
from tests.serving import issue


def agree(ward: Ward, query: str, name: str, *, flip: bool = False, **headers: str) -> bool:
    """Is the preview what the server shows?"""
    preview = ward.preview(query)
    seen, gone = ward.real(name, **headers)
    same = preview.hidden == gone and preview.total("seen") == len(seen)
    return same is not flip


@pytest.mark.parametrize("code", list(TEMPLATES))
def test_a_preview_is_what_the_server_shows(ward: Ward, code: str) -> None:
    """For each template: by its draft, and as recorded; for who treats and who does not."""
    draft = ward.decide(template=code, draft=True, **GIVEN[code])
    before = {n: ward.preview(f"actor=Practitioner/{n}", draft) for n in "def"}
    assert ward.server.get(f"Consent/{draft['id']}", headers=ward.patient).status_code == 404
    ward.template(code)
    for name in "def":
        assert agree(ward, f"actor=Practitioner/{name}", name)
        seen, gone = ward.real(name)
        mine = {key for key in gone if not key.startswith("Consent/")}
        assert {k for k in before[name].hidden if not k.startswith("Consent/")} == mine
        assert before[name].total("seen") == len(seen)
    for purpose in ("HRESCH", "HPAYMT"):
        query = f"actor=Practitioner/d&purpose={purpose}"
        assert agree(ward, query, "d", **{"x-purpose-of-use": purpose})


def test_the_comparison_can_fail(ward: Ward) -> None:
    assert agree(ward, "actor=Practitioner/f", "d", flip=True)
    assert not agree(ward, "actor=Practitioner/d", "d", flip=True)


def test_care_impact_is_said_before_it_is_restricted(ward: Ward) -> None:
    for code, template in TEMPLATES.items():
        answer = ward.ask(template=code, **GIVEN[code])
        if template.restricts:
            assert answer.status_code == 422, code
            assert template.texts["en"].warning in issue(answer)["diagnostics"]
        else:
            assert answer.status_code == 200, answer.text


def test_the_moment_counts(ward: Ward) -> None:
    ward.decide(template="family-doctor", actor="Practitioner/d", until="2998-12-31")
    for date, sees in (("2998-12-31", True), ("2999-01-01", False)):
        query = f"actor=Practitioner/d&treating=true&date={date}"
        assert ("Observation/h1" not in ward.preview(query).hidden) is sees
    ended = ward.preview("actor=Practitioner/d&date=2998-12-31")
    assert ended.one("relationship") is False and ended.total("seen") == 0


def test_actors_of_every_kind(ward: Ward) -> None:
    ward.template("sensitive-only-here")
    role = ward.preview("actor=PractitionerRole/er")
    assert role.hidden == ward.preview("actor=Practitioner/e").hidden
    group = ward.preview("actor=Organization/z")
    assert group.one("assumed") is True and group.one("role") == "consultant"
    assert group.hidden == role.hidden
    nobody = ward.preview("actor=Practitioner/f")
    assert nobody.total("seen") == 0 and nobody.one("relationship") is False
    assert {row["why"] for row in nobody.rows("decided")} == {"relationship"}
    supposed = ward.preview("actor=Practitioner/f&treating=true")
    assert supposed.hidden == ward.preview("actor=Practitioner/d").hidden
    more = ward.preview("actor=Practitioner/f&count=1")
    assert len(more.hidden) == 1 and more.one("more") is True
    assert ward.preview("actor=Practitioner/f").one("more") is False


@pytest.mark.parametrize(
    "query",
    [
        "",
        "actor=x",
        "actor=Practitioner/d&purpose=NOTHING",
        "actor=Patient/p1&purpose=BTG",
        "actor=Practitioner/d&count=1001",
        "actor=Practitioner/d&language=xx",
    ],
)
def test_a_preview_of_nothing_is_refused(ward: Ward, query: str) -> None:
    answer = ward.server.get(f"{PREVIEW}?{query}", headers=ward.patient)
    assert answer.status_code == 400, answer.text


def test_what_breaking_the_glass_would_show(ward: Ward) -> None:
    """What a request with that purpose is answered; no act is begun by looking."""
    ward.decide(template="hide-kind", label="HIV", understood=True)
    assert "Observation/h1" in ward.preview("actor=Practitioner/d").hidden
    broken = ward.preview("actor=Practitioner/d&purpose=BTG")
    assert "Observation/h1" not in broken.hidden and broken.one("purpose") == "BTG"
    stranger = ward.preview("actor=Practitioner/e&purpose=BTG")
    assert stranger.hidden == broken.hidden
    assert not ward.server.run(ward.server.domain.store.ledger.scan("break-glass"))


def test_not_even_in_an_emergency(ward: Ward) -> None:
    """What D breaks the glass for is shown, but for what was hidden also then; E is not named."""
    glass = {"x-purpose-of-use": "BTG", "x-break-glass-reason": "unconscious"}
    ward.template("hide-kind-always")
    names = {"d": [200, 404, 200, 404], "e": [200] * 4}
    for name, expected in names.items():
        headers = ward.readers[name] | glass
        keys = ("Patient/p1", "Observation/h1", "Observation/v2", "Condition/h2")
        found = [ward.server.get(key, headers=headers).status_code for key in keys]
        assert found == expected, name
    hidden = ward.preview("actor=Practitioner/d&purpose=BTG").hidden
    assert "Observation/h1" in hidden and "Observation/v2" not in hidden
