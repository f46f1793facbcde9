"""Patient/[id]/$consent-preview: what somebody would see of a patient's record, and why.

Computed by the decision that judges every request, for that person, purpose and moment; with a
draft Consent, as if it were recorded. Only for the patients themselves, who acts for them, and the
hospital's own clients.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from typing import Final

from fhir_server.access.ceremony import CONSENT
from fhir_server.access.consent.asking import Facts
from fhir_server.access.consent.codes import CONFIDENTIALITY, SENSITIVITY, level
from fhir_server.access.previewing import Asked, Previewing, Reason, View
from fhir_server.access.roles import ABOUT, AUDIT
from fhir_server.access.session import Session
from fhir_server.model.datatypes import format_instant, parse_datetime
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest, Unprocessable
from fhir_server.model.resource import Key, Stored
from fhir_server.search.plan import IdIn, InPatient, Predicate, Scan, Search

from .consenting.people import named, require_decider, shown
from .consenting.words import LANGUAGES, Words, words_of
from .parameters import Arguments, Parameter
from .registry import Invocation, Operation

DEFAULT, MOST = 100, 1000
"""Hidden resources that are named."""
LOOKED_AT: Final = 20_000
"""Resources of one record that are looked at."""
PAGE: Final = 500

INPUTS: Final = (
    Parameter("actor", "Literal", "Who would look: a person, or anybody of a group", min=1),
    Parameter("purpose", "code", "What for (v3-ActReason); default: as is usual for the role"),
    Parameter("date", "dateTime", "When; default: now"),
    Parameter("consent", "Consent", "A draft, as if it were recorded (by POST)"),
    Parameter("treating", "boolean", "As if the actor cared for the patient; default false"),
    Parameter("count", "positiveInt", f"Hidden ones to name; default {DEFAULT}, at most {MOST}"),
    Parameter("language", "code", f"One of {', '.join(LANGUAGES)}; default en"),
)
COUNTS: Final = (
    Parameter("code", "code", "Which", min=1),
    Parameter("text", "string", "In words"),
    Parameter("seen", "unsignedInt", "How many are seen", min=1),
    Parameter("masked", "unsignedInt", "How many of these with something left out", min=1),
    Parameter("hidden", "unsignedInt", "How many are hidden", min=1),
)
DECIDED: Final = (
    Parameter("seen", "boolean", "Are they seen?", min=1),
    Parameter("count", "unsignedInt", "How many", min=1),
    Parameter("why", "code", "relationship role others implicit unstated permit deny", min=1),
    Parameter("text", "string", "In words", min=1),
    Parameter("consent", "Reference", "The Consent that decides"),
    Parameter("rule", "string", "Where in it"),
)
HIDDEN: Final = (
    Parameter("resource", "Reference", "What is hidden", min=1),
    Parameter("category", "code", "Its kinds", max=None),
    Parameter("text", "string", "Why, in words", min=1),
    Parameter("consent", "Reference", "The Consent that decides"),
    Parameter("rule", "string", "Where in it"),
)
OUTPUTS: Final = (
    Parameter("text", "string", "The result in words", min=1),
    Parameter("warning", "string", "What hiding may mean for care"),
    Parameter("actor", "Reference", "Who would look", min=1),
    Parameter("role", "code", "As what"),
    Parameter("purpose", "code", "What for", min=1),
    Parameter("date", "instant", "When", min=1),
    Parameter("relationship", "boolean", "Does the actor care for the patient?", min=1),
    Parameter("assumed", "boolean", "Is that supposed, not known?", min=1),
    Parameter("type", "", "Counts of a resource type", max=None, parts=COUNTS),
    Parameter("category", "", "Counts of a kind of data", max=None, parts=COUNTS),
    Parameter("decided", "", "What decides, and about how many", max=None, parts=DECIDED),
    Parameter("hidden", "", "What the actor would not see", max=None, parts=HIDDEN),
    Parameter("more", "boolean", "More is hidden than is named", min=1),
)


def consent_preview(previewing: Previewing, zone: tzinfo) -> Operation:
    """The row. ``zone``: of dates without one."""

    async def handle(arguments: Arguments, session: Session, call: Invocation) -> Json:
        words = words_of(arguments.one("language", "en"))
        count = arguments.one("count", DEFAULT)
        if count > MOST:
            raise BadRequest(f"count: at most {MOST}", code="value")
        await require_decider(session, call.id)
        actor = await shown(session, arguments.one("actor"))
        asked = Asked(
            patient=call.id,
            actor=await _person(session, actor["reference"]),
            purpose=arguments.one("purpose", ""),
            moment=_moment(arguments.one("date"), zone, call.now),
            draft=_draft(arguments.one("consent"), call.id),
            treating=arguments.one("treating", False),
        )
        view = await previewing.view(asked)
        tally = Tally(view, previewing, words)
        await tally.take(session, call.id)
        return {"resourceType": "Parameters", "parameter": tally.parts(actor, asked, count)}

    return Operation(
        code="consent-preview",
        levels=frozenset(("instance",)),
        types=("Patient",),
        affects_state=False,
        inputs=INPUTS,
        outputs=OUTPUTS,
        scope="patient/*.rs",
        description="What somebody would see of a patient's record, and which decision says so",
        example="GET Patient/example/$consent-preview?actor=Practitioner/example",
        handler=handle,
        needs=(CONSENT,),
    )


async def _person(session: Session, actor: str) -> str:
    """Who acts in a role."""
    if not actor.startswith("PractitionerRole/"):
        return actor
    role = await named(session, actor)
    inner = str(role.get("practitioner", {}).get("reference", ""))
    return inner if inner.startswith("Practitioner/") else actor


def _moment(given: str | None, zone: tzinfo, now: int) -> int:
    return now if given is None else parse_datetime(given, zone).lo


def _draft(consent: Json | None, patient: str) -> Json | None:
    """As if it were in force. Unprocessable for somebody else's."""
    if consent is None:
        return None
    whose = consent.get("patient", {}).get("reference", "")
    if whose != f"Patient/{patient}":
        raise Unprocessable("consent: it is not about this patient", code="business-rule")
    return {"id": "draft", **consent, "status": "active"}


@dataclass(slots=True)
class Count:
    """Of one type or kind."""

    seen: int = 0
    masked: int = 0
    hidden: int = 0

    def part(self, name: str, code: str, text: str = "") -> Json:
        parts: list[Json] = [{"name": "code", "valueCode": code}]
        if text:
            parts.append({"name": "text", "valueString": text})
        members = (("seen", self.seen), ("masked", self.masked), ("hidden", self.hidden))
        parts += ({"name": member, "valueUnsignedInt": number} for member, number in members)
        return {"name": name, "part": parts}


@dataclass(slots=True)
class Tally:
    """What the actor would see, counted along the record as the patient has it."""

    view: View
    previewing: Previewing
    words: Words
    types: dict[str, Count] = field(default_factory=dict)
    categories: dict[str, Count] = field(default_factory=dict)
    reasons: Counter[tuple[bool, Reason]] = field(default_factory=Counter)
    hidden: list[tuple[Key, list[str], Reason]] = field(default_factory=list)

    async def take(self, session: Session, patient: str) -> None:
        """Look at the whole record as of one point. BadRequest if it is too large."""
        as_of, looked = await session.position(), 0
        for scan in self._scans(session, patient):
            seen = {
                stored.key: stored.body
                async for page in _pages(self.view.session, scan, as_of)
                for stored in page
            }
            async for page in _pages(session, scan, as_of):
                looked += len(page)
                if looked > LOOKED_AT:
                    raise BadRequest(f"the record has more than {LOOKED_AT}", code="too-costly")
                for stored in page:
                    self._count(stored, seen.get(stored.key))

    def _scans(self, session: Session, patient: str) -> Iterable[Scan]:
        """The patient, the compartment, and what names the patient outside of it; without the
        audit trail, which only patients see of their own."""
        wheres: dict[str, Predicate] = {"Patient": IdIn((patient,))}
        for type_ in self.previewing.compartment:
            if type_ not in (AUDIT, "Patient"):
                wheres[type_] = InPatient((patient,))
        for type_ in ABOUT:
            wheres[type_] = self.previewing.named(type_, patient)
        for type_, where in sorted(wheres.items()):
            if session.policy.allows("s", type_):
                yield Scan(type_, where)

    def _count(self, stored: Stored, shown: bytes | None) -> None:
        facts = self.previewing.facts(stored)
        seen = shown is not None
        codes = categories(facts)
        for count in (
            self.types.setdefault(stored.key.type, Count()),
            *(self.categories.setdefault(code, Count()) for code in codes),
        ):
            count.seen += seen
            count.hidden += not seen
            count.masked += seen and shown != stored.body
        reason = self.view.reason(facts, seen=seen)
        self.reasons[seen, reason] += 1
        if not seen:
            self.hidden.append((stored.key, codes, reason))

    def parts(self, actor: Json, asked: Asked, most: int) -> list[Json]:
        """The out parameters."""
        view = self.view
        parts: list[Json] = [{"name": "text", "valueString": self._text(actor)}]
        if any(reason.why in ("deny", "unstated") for _, _, reason in self.hidden):
            parts.append({"name": "warning", "valueString": self.words.preview["warning"]})
        parts.append({"name": "actor", "valueReference": actor})
        if view.standing.role:
            parts.append({"name": "role", "valueCode": view.standing.role})
        parts += [
            {"name": "purpose", "valueCode": view.reader.purpose},
            {"name": "date", "valueInstant": format_instant(asked.moment)},
            {"name": "relationship", "valueBoolean": view.reached},
            {"name": "assumed", "valueBoolean": view.assumed},
        ]
        parts += (count.part("type", type_) for type_, count in sorted(self.types.items()))
        labels = self.words.labels
        parts += (
            count.part("category", code, labels.get(code, ""))
            for code, count in sorted(self.categories.items())
        )
        parts += (self._decided(*key, n) for key, n in self.reasons.most_common())
        parts += (self._hidden(*one) for one in self.hidden[:most])
        return [*parts, {"name": "more", "valueBoolean": len(self.hidden) > most}]

    def _text(self, actor: Json) -> str:
        words = self.words.preview
        seen = sum(count.seen for count in self.types.values())
        total = seen + len(self.hidden)
        how = "some" if 0 < seen < total else "all" if seen else "none"
        who = actor.get("display", actor["reference"])
        lines = [f"{words['title']} ({who}): {words[how].format(seen=seen, total=total)}"]
        if self.view.assumed:
            lines.append(words["assumed"])
        why = Counter(reason.why for _, _, reason in self.hidden)
        lines += (f"- {n}: {self.words.whys[code]}" for code, n in why.most_common())
        return "\n".join(lines)

    def _decided(self, seen: bool, reason: Reason, number: int) -> Json:
        parts: list[Json] = [
            {"name": "seen", "valueBoolean": seen},
            {"name": "count", "valueUnsignedInt": number},
            {"name": "why", "valueCode": reason.why},
            *self._why(reason),
        ]
        return {"name": "decided", "part": parts}

    def _hidden(self, key: Key, codes: list[str], reason: Reason) -> Json:
        parts: list[Json] = [{"name": "resource", "valueReference": {"reference": str(key)}}]
        parts += ({"name": "category", "valueCode": code} for code in codes)
        return {"name": "hidden", "part": [*parts, *self._why(reason)]}

    def _why(self, reason: Reason) -> list[Json]:
        parts: list[Json] = [{"name": "text", "valueString": self.words.whys[reason.why]}]
        if reason.consent:
            reference = {"reference": f"{CONSENT}/{reason.consent}"}
            parts.append({"name": "consent", "valueReference": reference})
        if reason.rule:
            parts.append({"name": "rule", "valueString": reason.rule})
        return parts


def categories(facts: Facts) -> list[str]:
    """The sensitivities of a resource; without one its confidentiality."""
    found = sorted(label.code for label in facts.labels if label.system == SENSITIVITY)
    return found or [level(one for one in facts.labels if one.system == CONFIDENTIALITY)]


async def _pages(session: Session, scan: Scan, as_of: int) -> AsyncIterator[list[Stored]]:
    """What a session finds; nothing of a type that it may not search."""
    if not session.policy.allows("s", scan.type):
        return
    search: Search | None = Search((scan,), count=PAGE, total="none", as_of=as_of)
    while search is not None:
        page = await session.search(search)
        yield list(page.matches)
        search = replace(search, after=page.next) if page.next else None
