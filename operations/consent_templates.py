"""Patient/[id]/$consent-templates: what a patient can decide, in plain words.

English, Ukrainian, Russian. What takes something away from care comes with a warning.
"""

from __future__ import annotations

from typing import Final

from fhir_server.access.ceremony import CONSENT
from fhir_server.access.session import Session
from fhir_server.model.exchange import Json

from .consenting.people import require_decider
from .consenting.templates import TEMPLATES, Template
from .consenting.words import LANGUAGES, Words, words_of
from .parameters import Arguments, Parameter
from .registry import Invocation, Operation

INPUTS: Final = (Parameter("language", "code", f"One of {', '.join(LANGUAGES)}; default en"),)
LABEL: Final = (
    Parameter("code", "code", "For the parameter label of $consent", min=1),
    Parameter("text", "string", "What it is", min=1),
)
TEMPLATE: Final = (
    Parameter("code", "code", "For the parameter template of $consent", min=1),
    Parameter("title", "string", "Its name", min=1),
    Parameter("text", "string", "What it does", min=1),
    Parameter("warning", "string", "What it may mean for care, to be shown before"),
    Parameter("restricts", "boolean", "Does it take something away from who cares?", min=1),
    Parameter("needs", "code", "Parameters of $consent that it needs", max=None),
    Parameter("takes", "code", "Parameters of $consent that it also takes", max=None),
    Parameter("actor", "code", "Types of resources that may be an actor", max=None),
)
OUTPUTS: Final = (
    Parameter("template", "", "One kind of decision", max=None, parts=TEMPLATE),
    Parameter("label", "", "A kind of data that can be named", max=None, parts=LABEL),
)


async def handle(arguments: Arguments, session: Session, call: Invocation) -> Json:
    """The handler."""
    words = words_of(arguments.one("language", "en"))
    await require_decider(session, call.id)
    templates = [{"name": "template", "part": _part(t, words)} for t in TEMPLATES.values()]
    labels = [
        {
            "name": "label",
            "part": [{"name": "code", "valueCode": code}, {"name": "text", "valueString": text}],
        }
        for code, text in words.labels.items()
        if code != "N"
    ]
    return {"resourceType": "Parameters", "parameter": [*templates, *labels]}


def _part(template: Template, words: Words) -> list[Json]:
    text = template.texts[words.language]
    parts: list[Json] = [
        {"name": "code", "valueCode": template.code},
        {"name": "title", "valueString": text.title},
        {"name": "text", "valueString": text.text},
    ]
    if text.warning:
        parts.append({"name": "warning", "valueString": text.warning})
    parts.append({"name": "restricts", "valueBoolean": template.restricts})
    for name, least in template.takes.items():
        parts.append({"name": "needs" if least else "takes", "valueCode": name})
    parts += ({"name": "actor", "valueCode": type_} for type_ in template.actors)
    return parts


consent_templates: Final = Operation(
    code="consent-templates",
    levels=frozenset(("instance",)),
    types=("Patient",),
    affects_state=False,
    inputs=INPUTS,
    outputs=OUTPUTS,
    scope="patient/Consent.r",
    description="What a patient can decide about the own data, in plain words",
    example="GET Patient/example/$consent-templates?language=uk",
    handler=handle,
    needs=(CONSENT,),
)
