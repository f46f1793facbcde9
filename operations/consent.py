"""Patient/[id]/$consent: a patient decides, from a template, or withdraws a decision.

Writes a FHIR Consent after IHE PCF with its Provenance in one transaction. A changed decision is
a new version of the same Consent, a withdrawn one is inactive; nothing is deleted. It acts on the
next request of everybody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from fhir_server.access.ceremony import CONSENT
from fhir_server.access.drafts import Draft
from fhir_server.access.ports import Guard, Stale
from fhir_server.access.session import Session
from fhir_server.access.ties import PROVENANCE
from fhir_server.access.writing import resource_of
from fhir_server.model.datatypes import format_instant
from fhir_server.model.exchange import Json
from fhir_server.model.problem import (
    BadRequest,
    Conflict,
    NotFound,
    PreconditionFailed,
    Unprocessable,
)
from fhir_server.model.resource import Key, Stored
from fhir_server.search.plan import All, IdIn, InPatient, Scan, Search, TokenIs
from fhir_server.search.plan import Any as AnyOf

from .consenting.people import named, performer, require_decider, shown
from .consenting.templates import (
    TAG,
    TEMPLATES,
    Act,
    Choice,
    Template,
    consent,
    said,
    template_of,
)
from .consenting.words import LANGUAGES, Words, words_of
from .parameters import Arguments, Parameter
from .registry import Invocation, Operation

MOST: Final = 20
"""Actors, labels, resources of one decision."""
ATTEMPTS: Final = 5

INPUTS: Final = (
    Parameter("template", "code", "What is decided; see $consent-templates"),
    Parameter("actor", "Literal", "For whom", max=None),
    Parameter("label", "code", "About which kinds of data (R: all that is sensitive)", max=None),
    Parameter("data", "Literal", "About which resources", max=None),
    Parameter("period", "Period", "About data of which time"),
    Parameter("until", "date", "The last day on which it holds; none: until it is withdrawn"),
    Parameter("replaces", "id", "The Consent of which this is a new version"),
    Parameter("revoke", "id", "The Consent that is withdrawn, in place of a template"),
    Parameter("understood", "boolean", "What it means for care was shown and is understood"),
    Parameter("draft", "boolean", "Only show the Consent, as for $consent-preview; default false"),
    Parameter("language", "code", f"One of {', '.join(LANGUAGES)}; default en"),
)
OUTPUTS: Final = (
    Parameter("consent", "Consent", "As it was written, or would be", min=1),
    Parameter("text", "string", "What it says", min=1),
    Parameter("warning", "string", "What it may mean for care"),
    Parameter("ended", "Reference", "A decision that it ends", max=None),
)


@dataclass(frozen=True, slots=True)
class Domain:
    """``name``: of the custodian; ``implicit``: what holds without a Consent."""

    name: str
    implicit: str


def consent_operation(domain: Domain) -> Operation:
    """The row."""

    async def handle(arguments: Arguments, session: Session, call: Invocation) -> Json:
        words = words_of(arguments.one("language", "en"))
        await require_decider(session, call.id)
        deciding = Deciding(domain, session, call, words)
        code, revoked = arguments.one("template"), arguments.one("revoke")
        if (code is None) == (revoked is None):
            raise BadRequest("either a template, or what to revoke", code="required")
        if revoked is not None:
            return await deciding.revoke(revoked)
        if code not in TEMPLATES:
            raise BadRequest(f"template: one of {', '.join(TEMPLATES)}", code="value")
        return await deciding.decide(TEMPLATES[code], arguments)

    return Operation(
        code="consent",
        levels=frozenset(("instance",)),
        types=("Patient",),
        affects_state=True,
        inputs=INPUTS,
        outputs=OUTPUTS,
        scope="patient/Consent.cru",
        description="A patient decides about the own data, or withdraws a decision",
        example="POST Patient/example/$consent",
        handler=handle,
        needs=(CONSENT,),
    )


@dataclass(frozen=True, slots=True)
class Deciding:
    """One call."""

    domain: Domain
    session: Session
    call: Invocation
    words: Words

    async def decide(self, template: Template, arguments: Arguments) -> Json:
        choice = await self._choice(template, arguments)
        warning = template.texts[self.words.language].warning
        resource = consent(template, choice, self._act(), self.words)
        text = "\n".join(said(template, choice, self.words))
        if arguments.one("draft", False):
            resource["id"] = arguments.one("replaces") or self.session.new_id()
            return answer(resource, text, warning)
        if warning and not arguments.one("understood", False):
            raise Unprocessable(f"understood: {warning}", code="business-rule")
        for _ in range(ATTEMPTS):
            try:
                written, ended = await self._write(template, resource, arguments.one("replaces"))
            except (Stale, PreconditionFailed):
                continue
            return answer(resource_of(written), text, warning, ended)
        raise Conflict("the decisions of this patient are being changed by others")

    async def revoke(self, id_: str) -> Json:
        """Inactive, in a new version that says so."""
        for _ in range(ATTEMPTS):
            stored = await self._own(id_)
            resource = resource_of(stored)
            if resource.get("status") != "active":
                return answer(resource, self.words.acts["withdrawn"])
            ended = self._ended(resource)
            drafts = self._version(stored, ended)
            try:
                written = await self.session.ceremony(self.call.id).write(drafts)
            except (Stale, PreconditionFailed):
                continue
            assert written[0].stored is not None
            return answer(resource_of(written[0].stored), self.words.acts["withdrawn"])
        raise Conflict("the decisions of this patient are being changed by others")

    def _ended(self, resource: Json) -> Json:
        return {
            **resource,
            "status": "inactive",
            "dateTime": format_instant(self.call.now),
            "performer": [performer(self.session, self.call.id)],
        }

    def _version(
        self, stored: Stored, resource: Json, guards: tuple[Guard, ...] = ()
    ) -> list[Draft]:
        """A new version of what was seen, and whence it is."""
        key, seen = stored.key, str(stored.version)
        draft = Draft("PUT", key, {**resource, "id": key.id}, seen, guards)
        return [draft, self._provenance(key, stored.version + 1, resource)]

    async def _write(
        self, template: Template, resource: Json, replaced: str | None
    ) -> tuple[Stored, list[Key]]:
        """The new version of one Consent, or a new one; others of its group end with it."""
        guards, same = await self._same(template)
        before = await self._own(replaced) if replaced else next(iter(same), None)
        others = [stored for stored in same if before is None or stored.key != before.key]
        if before is None:
            key = Key(CONSENT, self.session.new_id())
            drafts = [Draft("POST", key, resource, guards=guards)]
            drafts.append(self._provenance(key, 1, resource))
        else:
            drafts = self._version(before, resource, guards)
        for stored in others:
            drafts += self._version(stored, self._ended(resource_of(stored)))
        written = await self.session.ceremony(self.call.id).write(drafts)
        assert written[0].stored is not None
        return written[0].stored, [stored.key for stored in others]

    async def _same(self, template: Template) -> tuple[tuple[Guard, ...], list[Stored]]:
        """The decisions that hold, of a group of which there is one at a time."""
        if not template.group:
            return (), []
        codes = [t.code for t in TEMPLATES.values() if t.group == template.group]
        where = All(
            (
                InPatient((self.call.id,)),
                TokenIs("status", None, "active"),
                AnyOf(tuple(TokenIs("_tag", TAG, code) for code in codes)),
            )
        )
        scan = Scan(CONSENT, where)
        guard = await self.session.find(scan, MOST)
        page = await self.session.search(Search((scan,), count=MOST, total="none"))
        return (guard,), list(page.matches)

    async def _own(self, id_: str) -> Stored:
        """A Consent of this patient. NotFound for any other."""
        scan = Scan(CONSENT, All((IdIn((id_,)), InPatient((self.call.id,)))))
        page = await self.session.search(Search((scan,), count=1, total="none"))
        if not page.matches:
            raise NotFound(f"{CONSENT}/{id_} is not known")
        return page.matches[0]

    def _act(self) -> Act:
        return Act(
            patient=self.call.id,
            performer=performer(self.session, self.call.id),
            organization=self.domain.name,
            moment=format_instant(self.call.now),
            implicit=self.domain.implicit,
        )

    async def _choice(self, template: Template, arguments: Arguments) -> Choice:
        """What was given, judged by what the template takes."""
        for name in ("actor", "label", "data", "period", "until"):
            count = len(arguments.all(name))
            if count and name not in template.takes:
                raise Unprocessable(f"{template.code} takes no {name}", code="business-rule")
            if count < template.takes.get(name, 0):
                raise Unprocessable(f"{template.code} needs {name}", code="required")
            if count > MOST:
                raise Unprocessable(f"{name}: at most {MOST}", code="too-costly")
        labels = arguments.all("label")
        for label in labels:
            if label not in self.words.labels or label == "N":
                raise Unprocessable("label: see $consent-templates", code="value")
        until = arguments.one("until", "")
        if until and until < format_instant(self.call.now)[: len(until)]:
            raise Unprocessable("until: it is over", code="value")
        actors = []
        for reference in arguments.all("actor"):
            if reference.partition("/")[0] not in template.actors:
                wanted = ", ".join(template.actors)
                raise Unprocessable(f"actor: one of {wanted}", code="value")
            actors.append(await shown(self.session, reference))
        for reference in arguments.all("data"):
            await named(self.session, reference)
        return Choice(
            tuple(actors), tuple(labels), tuple(arguments.all("data")), _period(arguments), until
        )

    def _provenance(self, key: Key, version: int, resource: Json) -> Draft:
        """Who decided, through what."""
        who = resource["performer"][0]
        patient = {"reference": f"Patient/{self.call.id}"}
        agent: Json = {"type": _participant("author"), "who": who}
        if who != patient:
            agent["onBehalfOf"] = patient
        client = self.session.principal.client or self.session.principal.id
        template = template_of(resource)
        act = "CREATE" if version == 1 else "UPDATE"
        body: Json = {
            "resourceType": PROVENANCE,
            "target": [{"reference": f"{key}/_history/{version}"}],
            "recorded": format_instant(self.call.now),
            "activity": {"coding": [{"system": _ACTIVITY, "code": act}]},
            "agent": [
                agent,
                {"type": _participant("assembler"), "who": {"display": client}},
            ],
        }
        if template:
            source = {"identifier": {"system": TAG, "value": template}}
            body["entity"] = [{"role": "source", "what": source}]
        return Draft("POST", Key(PROVENANCE, self.session.new_id()), body)


_ACTIVITY: Final = "http://terminology.hl7.org/CodeSystem/v3-DataOperation"
_PARTICIPANT: Final = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"


def _participant(code: str) -> Json:
    return {"coding": [{"system": _PARTICIPANT, "code": code}]}


def _period(arguments: Arguments) -> dict[str, Any] | None:
    given = arguments.one("period")
    if given is None:
        return None
    return {name: given[name] for name in ("start", "end") if name in given} or None


def answer(resource: Json, text: str, warning: str = "", ended: list[Key] | None = None) -> Json:
    """The out parameters."""
    parts: list[Json] = [
        {"name": "consent", "resource": resource},
        {"name": "text", "valueString": text},
    ]
    if warning:
        parts.append({"name": "warning", "valueString": warning})
    parts += ({"name": "ended", "valueReference": {"reference": str(key)}} for key in ended or ())
    return {"resourceType": "Parameters", "parameter": parts}
