"""Patient/[id]/$access-log: who saw my data, in plain words.

Computed from the AuditEvents that a search would give the caller: patients get their own, without a
word of anybody else; administrators anyone's. English, Ukrainian, Russian.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable
from datetime import UTC, datetime, tzinfo
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from fhir_server.access.session import Session
from fhir_server.formats.json import loads
from fhir_server.model.datatypes import parse_datetime
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest
from fhir_server.model.resource import Key, Stored
from fhir_server.search.plan import (
    All,
    DateIs,
    Predicate,
    Prefix,
    ReferenceIs,
    Scan,
    Search,
    SortKey,
)

from .access_words import LANGUAGES, Words
from .parameters import Arguments, Parameter
from .registry import Invocation, Operation

AUDIT: Final = "AuditEvent"
DEFAULT, MOST = 50, 500
EVENTS: Final = 2
"""Of a request, mostly: its own, and that of the decision."""
DECIDED: Final = "AuthZ-Consent"
PERSON: Final = "IRCP"
EXPORTED: Final = "$export"
NAMED: Final = 12
"""Kinds of data that are named one by one; more are the whole record."""
INPUTS: Final = (
    Parameter("start", "date", "First day; default: as far back as there is"),
    Parameter("end", "date", "Last day; default: today"),
    Parameter("language", "code", f"One of {', '.join(LANGUAGES)}; default en"),
    Parameter("count", "positiveInt", f"How many; default {DEFAULT}, at most {MOST}"),
)
ENTRY: Final = (
    Parameter("when", "instant", "When it was", min=1),
    Parameter("who", "string", "Who it was: a person, or an app", min=1),
    Parameter("role", "string", "As what"),
    Parameter("what", "string", "What was done", min=1),
    Parameter("purpose", "string", "What for"),
    Parameter("outcome", "string", "If it was refused or went wrong"),
    Parameter("text", "string", "All of it as one line", min=1),
    Parameter("event", "Reference", "The AuditEvent", min=1),
    Parameter("consent", "Reference", "The version of a Consent that decided", max=None),
)
OUTPUTS: Final = (
    Parameter("text", "string", "The whole list as text", min=1),
    Parameter("entry", "", "One access, the latest first", max=None, parts=ENTRY),
    Parameter("more", "boolean", "There is more than was asked for", min=1),
)


def access_log(zone: tzinfo) -> Operation:
    """The row. ``zone``: in which people read moments."""

    async def handle(arguments: Arguments, session: Session, call: Invocation) -> Json:
        words = LANGUAGES.get(arguments.one("language", "en"))
        if words is None:
            raise BadRequest(f"language: one of {', '.join(LANGUAGES)}", code="value")
        count = arguments.one("count", DEFAULT)
        if count > MOST:
            raise BadRequest(f"count: at most {MOST}", code="value")
        session.allow("s", AUDIT)
        if not session.policy.audits:
            await session.read(Key("Patient", call.id))
        where = _where(call.id, arguments, zone)
        search = Search((Scan(AUDIT, where),), _NEWEST, count=EVENTS * count, total="none")
        page = await session.search(search)
        entries = [Access(group, words, zone) for group in _requests(page.matches)]
        more = page.next is not None or len(entries) > count
        return _answer(entries[:count], words, more=more)

    return Operation(
        code="access-log",
        levels=frozenset(("instance",)),
        types=("Patient",),
        affects_state=False,
        inputs=INPUTS,
        outputs=OUTPUTS,
        scope="patient/AuditEvent.s",
        description="Who saw the data of a patient, in plain words",
        example="GET Patient/example/$access-log?language=uk",
        handler=handle,
        needs=(AUDIT,),
    )


_NEWEST: Final = (SortKey("date", "date", descending=True),)


def _where(patient: str, arguments: Arguments, zone: tzinfo) -> Predicate:
    parts: list[Predicate] = [ReferenceIs("entity", "Patient", patient)]
    bounds: tuple[tuple[str, Prefix], ...] = (("start", "ge"), ("end", "le"))
    for name, prefix in bounds:
        given = arguments.one(name)
        if given:
            span = parse_datetime(given, zone)
            parts.append(DateIs("date", prefix, span.lo, span.hi))
    return All(tuple(parts))


def _requests(events: Iterable[Stored]) -> Iterable[list[Json]]:
    """Events of one line of the trail together: a request, and the decisions taken for it."""
    groups: dict[str, list[Json]] = {}
    for one in events:
        event = loads(one.body)
        line = one.key.id.rpartition("-")[0] or one.key.id
        if _decides(event):
            groups.setdefault(line, []).append(event)
        else:
            groups.setdefault(line, []).insert(0, event)
    for group in groups.values():
        told = [event for event in group if _decides(event)]
        if _decides(group[0]) or any(event.get("outcome") != "0" for event in told):
            yield from ([event] for event in group)
        else:
            yield group


def _decides(event: Json) -> bool:
    return any(one.get("code") == DECIDED for one in event.get("subtype", ()))


class Access:
    """One request in words: its AuditEvent, and those of the decisions that permitted it."""

    def __init__(self, events: list[Json], words: Words, zone: tzinfo) -> None:
        self._event = event = events[0]
        self._consents = _consents(events)
        self._words = words
        self.when = str(event["recorded"])
        moment = datetime.fromisoformat(self.when.replace("Z", "+00:00")).astimezone(zone or UTC)
        month = words.months[moment.month - 1]
        self.moment = f"{moment.day} {month} {moment.year}, {moment:%H:%M}"
        self.person = self._agent()

    def _agent(self) -> Json:
        """The person who asked, else the client."""
        agents: list[Json] = self._event.get("agent", [])
        people = [a for a in agents if PERSON in _codes([a.get("type", {})])]
        asking = [a for a in agents if a.get("requestor")]
        return (people or asking or agents or [{}])[0]

    @property
    def who(self) -> str:
        who: Json = self.person.get("who", {})
        name = self.person.get("name") or who.get("display")
        name = name or who.get("identifier", {}).get("value") or who.get("reference")
        return self._words.nobody if name in (None, "unknown") else str(name)

    @property
    def role(self) -> str:
        role = next(iter(_codes(self.person.get("role", []))), "")
        return self._words.roles.get(role, role)

    @property
    def purpose(self) -> str:
        agents = self._event.get("agent", [])
        codes = [c for agent in agents for c in _codes(agent.get("purposeOfUse", []))]
        return self._words.purposes.get(codes[0], codes[0]) if codes else ""

    @property
    def what(self) -> str:
        found = [c.get("code", "") for c in self._event.get("subtype", [])]
        known = [code for code in found if code in self._words.acts]
        if EXPORTED in known:
            return self._exported()
        act = self._words.acts[known[-1]] if known else self._words.other
        kind = "" if known and known[-1][0] == "$" else self._kind()
        return f"{act}: {kind}" if kind else act

    def _exported(self) -> str:
        """A copy for another system, of what kinds of data; or one without names."""
        words, queries = self._words, [e["query"] for e in self._event["entity"] if "query" in e]
        asked = b64decode(queries[0]).decode("utf-8", "replace") if queries else ""
        fields = {k: v for part in asked.split("\n\n")[1:] for k, v in parse_qsl(part)}
        types = fields.get("_type", "").split(",")
        kinds = dict.fromkeys(words.kinds.get(type_, type_) for type_ in types if type_)
        told = ", ".join(kinds) if 0 < len(kinds) <= NAMED else words.record
        act = "$anonymize" if "_anonymize" in fields else EXPORTED
        return f"{words.acts[act]}: {told}"

    def _kind(self) -> str:
        """What kind of data it was about, as far as the request says."""
        for entity in self._event.get("entity", []):
            what: Json = entity.get("what", {})
            type_: str = what.get("type") or what.get("reference", "").partition("/")[0]
            if "query" in entity:
                type_ = _asked(entity["query"])
            elif _code(entity.get("type")) in ("1", "Consent"):
                continue
            if type_:
                return self._words.kinds.get(type_, type_)
        return ""

    @property
    def outcome(self) -> str:
        given = self._event.get("outcome", "0")
        if given == "0":
            return ""
        return self._words.refused if given == "4" else self._words.failed

    @property
    def text(self) -> str:
        role = f" ({self.role})" if self.role else ""
        purpose = f"; {self._words.purpose}: {self.purpose}" if self.purpose else ""
        outcome = f" [{self.outcome}]" if self.outcome else ""
        return f"{self.moment} - {self.who}{role}: {self.what}{purpose}{outcome}"

    def part(self) -> Json:
        """As an out parameter."""
        parts: list[Json] = [{"name": "when", "valueInstant": self.when}]
        for name in ("who", "role", "what", "purpose", "outcome", "text"):
            value = getattr(self, name)
            if value:
                parts.append({"name": name, "valueString": value})
        reference = {"reference": f"{AUDIT}/{self._event['id']}"}
        parts.append({"name": "event", "valueReference": reference})
        parts += ({"name": "consent", "valueReference": {"reference": c}} for c in self._consents)
        return {"name": "entry", "part": parts}


def _consents(events: Iterable[Json]) -> list[str]:
    """The versions of the Consents by which it was decided."""
    entities = (one for event in events if _decides(event) for one in event.get("entity", ()))
    said = (one.get("what", {}).get("reference", "") for one in entities)
    return list(dict.fromkeys(one for one in said if one.startswith("Consent/")))


def _answer(entries: list[Access], words: Words, *, more: bool) -> Json:
    lines = [words.title, *(one.text for one in entries)]
    if not entries:
        lines.append(words.nothing)
    if more:
        lines.append(words.more)
    return {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "text", "valueString": "\n".join(lines)},
            *(one.part() for one in entries),
            {"name": "more", "valueBoolean": more},
        ],
    }


def _asked(query: str) -> str:
    """The resource type in a request that was asked: ``GET https://host/fhir/Observation?...``"""
    asked = b64decode(query).decode("utf-8", "replace")
    path = urlsplit(asked.partition(" ")[2].partition("\n")[0]).path
    segments = path.partition("/fhir/")[2].split("/")
    if len(segments) > 2 and segments[0] == "Patient" and segments[2][:1].isupper():
        return segments[2]
    return segments[0] if segments[0][:1].isupper() and "$" not in path else ""


def _code(coding: Any) -> str:
    return str(coding.get("code", "")) if isinstance(coding, dict) else ""


def _codes(concepts: list[Json]) -> list[str]:
    return [_code(coding) for one in concepts for coding in one.get("coding", [])]
