"""Pages in every language, and for everybody."""

from __future__ import annotations

import html
import re

import pytest

from fhir_server.auth.render import LANGUAGES, catalogue
from tests.serving import Server
from tests.smart.flow import (
    SCOPE,
    App,
    Browser,
)


def test_a_refused_login_can_be_read_in_another_language(clinic: Server) -> None:
    browser = Browser(clinic)
    wrong = browser.sign_in(browser.get(App(clinic).authorize(SCOPE)), "doc", "a guess")
    (link,) = re.findall(r'hreflang="uk" href="([^"]+)"', wrong.text)
    page = browser.get(html.unescape(link))
    assert 'lang="uk"' in page.text
    assert 'name="patient"' in browser.sign_in(page, "doc").text


@pytest.mark.parametrize("language", list(LANGUAGES))
def test_languages(clinic: Server, language: str) -> None:
    texts = catalogue(language)
    browser = Browser(clinic)
    browser.headers = {"accept-language": f"{language}-XX,en;q=0.5"}
    page = browser.get(App(clinic).authorize(SCOPE + " offline_access user/Observation.cruds"))
    assert f'<html lang="{language}">' in page.text and texts["login-title"] in page.text
    picker = browser.sign_in(page, "doc")
    assert texts["patient-legend"].split("’")[0] in picker.text
    consent = browser.submit(picker, ("patient", "a"))
    assert texts["types"]["Observation"] in consent.text.replace("&#39;", "'")
    assert texts["approve"] in consent.text
    home = browser.get("")
    assert texts["roles"]["family-doctor"] in home.text


def test_a_chosen_language_stays(clinic: Server) -> None:
    browser = Browser(clinic)
    page = browser.get(App(clinic).authorize(SCOPE))
    link = re.search(r'lang="uk"[^>]*href="([^"]+)"', page.text)
    assert link is not None
    chosen = browser.get("continue" + link[1].replace("&amp;", "&"))
    assert '<html lang="uk">' in chosen.text
    assert '<html lang="uk">' in browser.sign_in(chosen, "doc").text


def test_the_catalogues_say_the_same_things() -> None:
    def keys(tree: object, path: str = "") -> set[str]:
        if not isinstance(tree, dict):
            return {f"{path}:{','.join(sorted(re.findall('{[a-z]+}', str(tree))))}"}
        return {key for name, part in tree.items() for key in keys(part, f"{path}/{name}")}

    english = keys(catalogue("en"))
    for language in LANGUAGES:
        assert keys(catalogue(language)) == english
    assert keys({"a": "{b}"}) != keys({"a": "b"})


def test_pages_can_be_used_without_sight_or_mouse(clinic: Server) -> None:
    """Every field has a label, every page a title, a language and one main heading."""
    browser = Browser(clinic)
    login = browser.get(App(clinic).authorize(SCOPE))
    picker = browser.sign_in(login, "doc")
    consent = browser.submit(picker, ("patient", "a"))
    for page in (login, picker, consent):
        assert page.text.count("<h1>") == 1 and "<main" in page.text and "<title>" in page.text
        assert 'name="viewport"' in page.text
        for tag in re.findall(r"<input[^>]*>", page.text):
            if 'type="hidden"' in tag:
                continue
            found = re.search(r' id="(\w+)"', tag)
            labelled = found is not None and f'<label for="{found[1]}">' in page.text
            assert labelled or f'<label class="choice">{tag}' in page.text, tag
