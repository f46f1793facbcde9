"""Pages: server-rendered HTML, text from the message catalogues, no scripts, nothing from
elsewhere. ``pages/*.html`` are the templates, ``pages/<language>.json`` the texts.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any, Final
from urllib.parse import urlencode

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from fhir_server.auth.exchange import NO_STORE, Ask, Reply
from fhir_server.auth.server import AUTH, Server
from fhir_server.auth.steps import cookie, cookie_name

LANGUAGES: Final = {"en": "English", "uk": "Українська", "ru": "Русский"}
DEFAULT: Final = "en"
POLICY: Final = (
    "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action"
)
HTML: Final = "text/html; charset=utf-8"


@cache
def _files() -> dict[str, str]:
    folder = resources.files("fhir_server.auth") / "pages"
    return {file.name: file.read_text(encoding="utf-8") for file in folder.iterdir()}


@cache
def catalogue(language: str) -> dict[str, Any]:
    """All texts of a language."""
    texts: dict[str, Any] = json.loads(_files()[f"{language}.json"])
    return texts


@cache
def _templates() -> Environment:
    return Environment(
        loader=DictLoader(_files()),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def stylesheet() -> Reply:
    headers = {"Cache-Control": "public, max-age=300"}
    body = _files()["style.css"].encode()
    return Reply(200, body, headers, "text/css; charset=utf-8")


def language_of(server: Server, ask: Ask) -> str:
    """The language asked for, the one chosen before, or the browser's."""
    asked = [value for name, value in ask.query if name == "lang"]
    kept = ask.cookies.get(cookie_name(server, "lang"), "")
    accepted = ask.headers.get("accept-language", "").lower().split(",")
    wanted = [part.strip()[:2] for part in accepted]
    for language in (*asked, kept, *wanted):
        if language in LANGUAGES:
            return language
    return DEFAULT


def page(
    server: Server,
    ask: Ask,
    name: str,
    values: dict[str, Any],
    *,
    status: int = 200,
    target: str = "",
    cookies: tuple[str, ...] = (),
    headers: dict[str, str] | None = None,
) -> Reply:
    """A page. ``target``: where the answer to its form may lead, beside this server."""
    language = language_of(server, ask)
    texts = catalogue(language)

    def say(key: str, **parts: str) -> str:
        return str(texts[key].format(**parts)) if parts else str(texts[key])

    def say_html(key: str, **parts: str) -> Markup:
        """The parts are escaped and stand out."""
        strong = {k: Markup("<strong>{}</strong>").format(v) for k, v in parts.items()}
        return Markup(texts[key]).format(**strong)

    body = (
        _templates()
        .get_template(f"{name}.html")
        .render(
            **values,
            say=say,
            say_html=say_html,
            texts=texts,
            language=language,
            languages=_languages(ask, str(values.get("request") or "")),
            base=AUTH,
            domain=server.rules.domain,
        )
    )
    if any(key == "lang" for key, _ in ask.query):
        cookies = (*cookies, cookie(server, "lang", language))
    policy = f"{POLICY} 'self' {target}".rstrip()
    given = {**NO_STORE, "Content-Security-Policy": policy, "Vary": "Accept-Language, Cookie"}
    return Reply(status, body.encode(), {**given, **(headers or {})}, HTML, cookies)


def _languages(ask: Ask, request: str) -> list[tuple[str, str, str]]:
    """(code, name, address of this page in it); none where the page cannot be asked for again.
    ``request``: the sealed step of a page that answers a form.
    """
    place, kept = "", [(name, value) for name, value in ask.query if name == "request"]
    if ask.method != "GET":
        if not request:
            return []
        place, kept = f"{AUTH}/continue", [("request", request)]
    return [
        (code, name, f"{place}?{urlencode([('lang', code), *kept])}")
        for code, name in LANGUAGES.items()
    ]


def refusal(
    server: Server, ask: Ask, key: str, status: int = 400, headers: dict[str, str] | None = None
) -> Reply:
    """The page of an error."""
    values = {"title": "error-title", "key": f"error-{key}"}
    return page(server, ask, "error", values, status=status, headers=headers)
