"""Templates of consents: their form, their warnings, their words."""

from __future__ import annotations

from base64 import b64decode
from hashlib import sha1

import pytest

from operations.consenting.templates import TEMPLATES, Act, Choice, Template, consent, parse
from operations.consenting.words import EN, LANGUAGES
from tests.consent.worlds import to
from tests.operations.consent_tools.wards import CHECK


def act(implicit: str) -> Act:
    return Act("p1", to("Patient/p1"), "clinic", "2026-01-01T00:00:00.000Z", implicit)


def choice(template: Template) -> Choice:
    actors = tuple({"reference": f"{type_}/x"} for type_ in template.actors[:1])
    data = ("Encounter/e", "DocumentReference/d")
    period = {"start": "2024-01-01"}
    return Choice(actors, ("HIV", "R"), data, period, "2027-01-01")


@pytest.mark.parametrize("implicit", ["basic-normal", "all-normal", "break-glass-only", "deny"])
@pytest.mark.parametrize("code", list(TEMPLATES))
def test_a_template_is_a_consent_of_ihe_pcf(code: str, implicit: str) -> None:
    """What the profiles require and forbid; in every language."""
    template = TEMPLATES[code]
    for words in LANGUAGES.values():
        made = consent(template, choice(template), act(implicit), words)
        CHECK({"id": "x", **made})
        for name in ("scope", "patient", "dateTime", "performer", "organization", "provision"):
            assert made[name], name
        source = made["sourceAttachment"]
        assert b64decode(source["hash"]) == sha1(b64decode(source["data"])).digest()
        assert made["policy"] == [{"uri": f"https://profiles.ihe.net/ITI/PCF/Policy-{implicit}"}]
        root = made["provision"]
        inner = root.get("provision", [])
        assert not any("provision" in rule for rule in inner)
        for rule in (root, *inner):
            assert not {"action", "class", "code"} & rule.keys()
        if implicit in ("basic-normal", "all-normal"):
            assert root["type"] in ("permit", "deny")


def test_a_template_without_a_warning_is_refused() -> None:
    rows = "".join(f'[x.{language}]\ntitle = "t"\ntext = "t"\n' for language in LANGUAGES)
    head = '[x]\nversion = 1\nscope = "research"\nroot = "rule"\ntakes = {}\nrule = []\n'
    assert parse(f"{head}restricts = false\n{rows}")["x"].name == "x|1"
    with pytest.raises(ValueError, match="care"):
        parse(f"{head}restricts = true\n{rows}")


def test_every_language_has_every_word() -> None:
    for words in LANGUAGES.values():
        for table in ("labels", "parts", "whys", "preview", "acts"):
            assert getattr(words, table).keys() == getattr(EN, table).keys()
