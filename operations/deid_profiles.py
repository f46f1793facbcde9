"""The profiles of de-identification over HTTP: which there are, one more, is it sound, one less.

For administrators. A version is a file that never changes (``deid/shelf.py``) and a Library in the
record; who put it there or took it away, and why, is a Provenance of that. What does not load, has
a rule that is misspelt, or one that never acts, is refused with the place of the rule.
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any, Final

from fhir_server.access.drafts import Draft
from fhir_server.access.session import Session
from fhir_server.definitions.registry import load
from fhir_server.model.datatypes import format_instant
from fhir_server.model.exchange import Json
from fhir_server.model.problem import (
    BadRequest,
    Conflict,
    Forbidden,
    Issue,
    NotFound,
    Unprocessable,
)
from fhir_server.model.resource import ID_PATTERN, Key

from .deid.assembly import Deidentification
from .deid.engine import profiles
from .deid.linter import Finding, findings
from .deid.profile import Profile, ProfileError, opened, parse, read
from .models.administration import ADMIN, LONGEST_REASON
from .models.publishing import decided
from .parameters import Arguments, Parameter
from .registry import Handler, Invocation, Operation

NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_RULE: Final = re.compile(r"rule (\d+)\b")
ACCEPT: Final = ("dead",)

_NAME = Parameter("name", "code", "Short name: small letters, digits and -, 32 at most", min=1)
_REASON = Parameter("reason", "string", "Why; it is kept as Provenance", min=1)
_CONTENT = Parameter("content", "Binary", "The profile: its JSON file", min=1)
_FINDING = Parameter(
    "finding",
    "",
    "What is found in it, the worst first",
    max=None,
    parts=(
        Parameter("severity", "code", "error, dead (a rule never acts) or warning", min=1),
        Parameter("text", "string", "What", min=1),
        Parameter("rule", "integer", "The number of the rule, from 0"),
    ),
)
_TOLD: Final = (
    Parameter("name", "code", "Short name", min=1),
    Parameter("canonical", "canonical", "Its url and version", min=1),
    Parameter("title", "string", "Title"),
    Parameter("shipped", "boolean", "It comes with the server", min=1),
    Parameter("rules", "integer", "How many"),
    Parameter("fault", "string", "Why it does not load", max=None),
    Parameter("content", "string", "The file, of the one that was asked for"),
    Parameter(
        "version",
        "",
        "A version that was put here over HTTP",
        max=None,
        parts=(
            Parameter("version", "string", "Version", min=1),
            Parameter("current", "boolean", "It is the one in force", min=1),
            Parameter("library", "Reference", "Its Library", min=1),
        ),
    ),
)


def profile_operations(deid: Deidentification, own: Session) -> tuple[Operation, ...]:
    """The rows. ``own``: the server's session, in whose name the record is told."""
    rows = _Rows(deid, own)
    only = Parameter("name", "code", "Only this one, with its content")
    added = (*_TOLD[:3], Parameter("library", "Reference", "Its Library", min=1), _FINDING)
    accept = Parameter("accept", "code", "dead: rules that never act may stay (of a foreign file)")
    profile = Parameter("profile", "", "A profile", max=None, parts=_TOLD)
    content = (_NAME, _CONTENT, _REASON, accept)
    removed = (Parameter("name", "code", "Short name", min=1),)
    return (
        _row("deid-profiles", rows.listed, (only,), (profile,)),
        _row("deid-profile-validate", rows.validate, (_CONTENT,), (_FINDING,), body="content"),
        _row("deid-profile-add", rows.add, content, added, body="content"),
        _row("deid-profile-remove", rows.remove, (_NAME, _REASON), removed),
    )


_DOC: Final = {
    "deid-profiles": ("The profiles of de-identification", "GET /fhir/$deid-profiles"),
    "deid-profile-validate": (
        "Says what is wrong with a profile: what does not load, never acts, may not be meant",
        "POST /fhir/$deid-profile-validate",
    ),
    "deid-profile-add": (
        "Puts a profile, or a version more of one, in force at once",
        "POST /fhir/$deid-profile-add?name=study&reason=approved",
    ),
    "deid-profile-remove": (
        "Takes a profile out of force at once; its versions stay known",
        "POST /fhir/$deid-profile-remove?name=study&reason=ended",
    ),
}


def _row(
    code: str,
    handler: Handler,
    inputs: tuple[Parameter, ...],
    outputs: tuple[Parameter, ...],
    body: str = "",
) -> Operation:
    description, example = _DOC[code]
    return Operation(
        code=code,
        levels=frozenset({"system"}),
        types=(),
        affects_state=code in ("deid-profile-add", "deid-profile-remove"),
        inputs=inputs,
        outputs=outputs,
        scope="user/Library.u (role admin)",
        description=description,
        example=example,
        handler=handler,
        body=body,
        needs=("Library",),
    )


class _Rows:
    """The handlers."""

    def __init__(self, deid: Deidentification, own: Session) -> None:
        self._shelf = deid.shelf
        self._own = own

    async def listed(self, arguments: Arguments, session: Session, _: Invocation) -> Json:
        """NotFound: there is none of this name."""
        _allow(session)
        only = arguments.one("name", "")
        if only and only not in self._shelf.codes():
            raise NotFound(f"there is no profile {only[:64]!r}")
        codes = [only] if only else self._shelf.codes()
        told = [{"name": "profile", "part": self._told(code, bool(only))} for code in codes]
        return {"resourceType": "Parameters", "parameter": told}

    async def validate(self, arguments: Arguments, session: Session, _: Invocation) -> Json:
        """What is found is the answer, no refusal."""
        _allow(session)
        try:
            found = findings("profile", opened("profile", _body(arguments)), load())
        except ProfileError as error:
            found = [Finding("error", text) for text in error.findings]
        return {"resourceType": "Parameters", **_parameter(_found(found))}

    async def add(self, arguments: Arguments, session: Session, call: Invocation) -> Json:
        """Unprocessable: it does not load, or a rule never acts. Conflict: the name is of one
        that comes with the server, or there is another profile of this version."""
        _allow(session)
        name, body, reason = arguments.one("name"), _body(arguments), _reason(arguments)
        accept = arguments.one("accept", "")
        if accept and accept not in ACCEPT:
            raise BadRequest(f"accept: {', '.join(ACCEPT)}", code="value")
        if NAME.fullmatch(name) is None:
            raise BadRequest(f"name: {_NAME.doc}", code="value")
        made, found = self._sound(name, body, accept == "dead")
        version = _version(made, body)
        id_ = _library_id(name, version)
        new = self._shelf.keep(name, version, body)
        library = _library(id_, made, version, body)
        await self._tell(library, "add" if new else "add again", reason, session, call)
        self._shelf.put(name, version)
        told = [
            *_parts(name=name, canonical=made.canonical, title=made.title),
            {"name": "library", "valueReference": {"reference": f"Library/{id_}"}},
            *_found(found),
        ]
        return {"resourceType": "Parameters", "parameter": told}

    async def remove(self, arguments: Arguments, session: Session, call: Invocation) -> Json:
        """NotFound: there is none of this name; Conflict: it comes with the server."""
        _allow(session)
        name, reason = arguments.one("name"), _reason(arguments)
        _refuse_shipped(name)
        path = self._shelf.path(name) if NAME.fullmatch(name) else None
        if path is None:
            raise NotFound(f"there is no profile {name[:64]!r}")
        body = path.read_bytes()
        try:
            made = read(path, name)
        except ProfileError:
            made = parse(name, {"fhirPathRules": []})  # it never loaded: it may go all the same
        version = _version(made, body)
        library = _library(_library_id(name, version), made, version, body, status="retired")
        self._shelf.remove(name)
        await self._tell(library, "remove", reason, session, call)
        return {"resourceType": "Parameters", "parameter": _parts(name=name)}

    def _sound(self, name: str, body: bytes, dead: bool) -> tuple[Profile, list[Finding]]:
        _refuse_shipped(name)
        try:
            document = opened(name, body)
            found = findings(name, document, load())
            bad = [f for f in found if f.severity == "error" or (f.severity == "dead" and not dead)]
            if bad:
                raise Unprocessable([_issue(one) for one in bad])
            made = parse(name, document)
        except ProfileError as error:
            bad = [Finding("error", text) for text in error.findings]
            raise Unprocessable([_issue(one) for one in bad]) from None
        for code in self._shelf.codes():
            if code != name and self._named(code, made.url):
                raise Conflict(f"the profile {code} has this url: {made.url[:200]}")
        return made, found

    def _named(self, code: str, url: str) -> bool:
        try:
            return self._shelf.find(code).profile.url == url
        except (NotFound, Unprocessable):
            return False

    def _told(self, code: str, whole: bool) -> list[Json]:
        shipped = any(one.profile.code == code for one in profiles())
        try:
            made = self._shelf.find(code).profile
        except Unprocessable as problem:
            faults = [str(one.diagnostics) for one in problem.issues]
            told = _parts(name=code, shipped=shipped, fault=faults)
        else:
            told = _parts(name=code, canonical=made.canonical, title=made.title, shipped=shipped)
            told.append({"name": "rules", "valueInteger": len(made.rules)})
        path = self._shelf.path(code)
        if whole and path is not None:
            told += _parts(content=path.read_text(encoding="utf-8", errors="replace"))
        for kept in self._shelf.versions(code):
            part = _parts(version=kept.version, current=kept.current)
            reference = {"reference": f"Library/{_library_id(code, kept.version)}"}
            part.append({"name": "library", "valueReference": reference})
            told.append({"name": "version", "part": part})
        return told

    async def _tell(
        self, library: Json, act: str, reason: str, session: Session, call: Invocation
    ) -> None:
        """The Library, and who did what with it why, in one commit."""
        own, key = session.recording(self._own), Key("Library", library["id"])
        noted = decided(
            f"de-identification profile {act}",
            [key],
            session.principal,
            reason,
            format_instant(call.now),
        )
        note = Draft("POST", Key("Provenance", own.new_id()), noted)
        await own.write([Draft("PUT", key, library), note])


def _allow(session: Session) -> None:
    """Raises Forbidden for who does not administrate: profiles decide what leaves."""
    principal = session.principal
    if principal.standing is not None:
        may = principal.standing.role == ADMIN and any(
            scope.context == "user" and scope.covers("Library", "u") for scope in principal.scopes
        )
    else:
        may = principal.system and not principal.scopes
    if not may:
        raise Forbidden("not permitted: to decide about profiles of de-identification")


def _body(arguments: Arguments) -> bytes:
    try:
        return a2b_base64(str(arguments.one("content").get("data", "")))
    except ValueError:
        raise BadRequest("content: its data is not base64", code="value") from None


def _reason(arguments: Arguments) -> str:
    reason = str(arguments.one("reason")).strip()
    if not reason or len(reason) > LONGEST_REASON:
        raise BadRequest(f"reason: say why, in up to {LONGEST_REASON} characters", code="value")
    return reason


def _refuse_shipped(name: str) -> None:
    if any(one.profile.code == name for one in profiles()):
        raise Conflict(f"{name} comes with the server and stays as it is: take another name")


def _version(profile: Profile, body: bytes) -> str:
    """Of the file; of one that tells none, by what is in it."""
    return profile.version if profile.version != "0" else sha256(body).hexdigest()[:12]


def _library_id(name: str, version: str) -> str:
    """Unprocessable: the version does not go into an id."""
    id_ = f"deid-{name}-{version}"
    if ID_PATTERN.fullmatch(id_) is None:
        text = "version: letters, digits, - and . of which the name leaves room in 64 characters"
        raise Unprocessable(text, code="value", expression="version")
    return id_


def _library(id_: str, profile: Profile, version: str, body: bytes, status: str = "active") -> Json:
    """What the record knows of a version; the rules are in the server, for administrators."""
    system = "http://terminology.hl7.org/CodeSystem/library-type"
    digest = f"urn:sha256:{sha256(body).hexdigest()}"
    return {
        "resourceType": "Library",
        "id": id_,
        **({} if profile.foreign else {"url": profile.url}),
        "identifier": [{"system": "urn:ietf:rfc:3986", "value": digest}],
        "version": version,
        "title": profile.title,
        "status": status,
        "type": {"coding": [{"system": system, "code": "asset-collection"}]},
    }


def _issue(finding: Finding) -> Issue:
    rule = _RULE.match(finding.text)
    place = f"fhirPathRules[{rule[1]}]" if rule else None
    return Issue("invalid" if finding.severity == "error" else "business-rule", finding.text, place)


def _found(found: Iterable[Finding]) -> list[Json]:
    told = []
    for one in found:
        part: list[Json] = [
            {"name": "severity", "valueCode": one.severity},
            {"name": "text", "valueString": one.text},
        ]
        rule = _RULE.match(one.text)
        if rule:
            part.append({"name": "rule", "valueInteger": int(rule[1])})
        told.append({"name": "finding", "part": part})
    return told


_MEMBERS: Final = {"name": "valueCode", "canonical": "valueCanonical", "shipped": "valueBoolean"}
_BOOLEAN: Final = frozenset({"current", "shipped"})


def _parts(**values: Any) -> list[Json]:
    """As parameters; a list gives one for each of it."""
    told: list[Json] = []
    for name, value in values.items():
        kind = "valueBoolean" if name in _BOOLEAN else _MEMBERS.get(name, "valueString")
        told += [
            {"name": name, kind: one} for one in (value if isinstance(value, list) else [value])
        ]
    return told


def _parameter(parts: Sequence[Json]) -> Json:
    return {"parameter": list(parts)} if parts else {}
