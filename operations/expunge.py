"""$expunge: resources and versions removed for good.

R4 has no such operation; the parameters have the names that HAPI FHIR gave them
(https://hapifhir.io/hapi-fhir/docs/server_jpa/configuration.html). A DELETE leaves every version
readable; this leaves nothing, and the id is as one that was never used. Nothing is erased unless
a parameter says what.

It needs the right ``__expunge`` beside read and delete of the whole type: no resource scope
includes it. So nothing can be hidden from who may ask, and an id that was never used is answered
like one that was erased before: with counts of 0.

Other resources that refer to what would go stand in the way (409), unless ``keepReferences``
says that their references stay and lead nowhere. ``compartment`` erases a patient with all of the
Patient compartment, deleted resources and old versions included, and the Binaries of that record;
what is in another patient's compartment too is kept and named in the answer.

The re-identification vault forgets what is erased.

AuditEvents stay, and so does the audit trail: they say who saw what, by ids, also of what is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from fhir_server.access.erasing import Erasing, Wanted, keys_of
from fhir_server.access.patient_record import Record
from fhir_server.access.ports import Stale
from fhir_server.access.roles import AUDIT
from fhir_server.access.session import Session
from fhir_server.jobs.queue import Queue
from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest, Conflict
from fhir_server.model.resource import Key
from fhir_server.search.plan import TRUE, Any, InPatient, Not, Predicate, ReferenceIs, Scan, both
from fhir_server.search.schema import SearchSchema

from .deid.vault import Vault
from .parameters import Arguments, Parameter
from .registry import Invocation, Operation

ATTEMPTS: Final = 5
"""How often it is gathered anew because something moved meanwhile."""
LIMIT: Final = 1000
BATCH: Final = 100
"""Ids that one look for references asks for."""
NAMED: Final = 100
"""Kept resources that the answer names."""

SAY: Final = (
    "expungeDeletedResources",
    "expungePreviousVersions",
    "expungeEverything",
    "compartment",
)
INPUTS: Final = (
    Parameter(SAY[0], "boolean", "Erase what is deleted, with all of its versions"),
    Parameter(SAY[1], "boolean", "Erase the versions that are not current"),
    Parameter(SAY[2], "boolean", "On an instance: erase it with all of its versions"),
    Parameter(SAY[3], "boolean", "On a Patient: erase it with its whole compartment"),
    Parameter("limit", "positiveInt", f"On a type: most versions erased by one call ({LIMIT})"),
    Parameter("keepReferences", "boolean", "Erase what others refer to; their references stay"),
    Parameter("purpose", "code", "What for, by v3-ActReason; it is recorded in the erase log"),
)
OUTPUTS: Final = (
    Parameter("count", "integer", "Versions erased", min=1),
    Parameter("resources", "integer", "Resources of which nothing is left", min=1),
    Parameter("more", "boolean", "The limit was reached and there is more to erase", min=1),
    Parameter("kept", "Reference", f"Shared with another patient (up to {NAMED})", max=None),
)


def expunge_operation(expunge: Expunge) -> Operation:
    """The row."""

    async def handler(arguments: Arguments, session: Session, call: Invocation) -> Json:
        return await expunge.run(arguments, session, call.type, call.id)

    return Operation(
        code="expunge",
        levels=frozenset(("type", "instance")),
        types=expunge.types,
        affects_state=True,
        inputs=INPUTS,
        outputs=OUTPUTS,
        scope="system/*.rd __expunge",
        description="Erase resources or versions for good; it cannot be undone",
        example="POST Patient/example/$expunge?expungePreviousVersions=true",
        handler=handler,
    )


class Expunge:
    """What the operation and the command share.

    ``base``: the own base URL; ``queue``: of jobs, whose files may hold what is erased.
    """

    def __init__(self, schema: SearchSchema, base: str, queue: Queue, vault: Vault) -> None:
        self.types = tuple(sorted(schema.types))
        self._schema = schema
        self._base = base
        self._queue = queue
        self._vault = vault
        record = schema.definitions.compartment("Patient").keys() - {AUDIT}
        self._record_types = (*sorted(record), "Patient", "Binary")

    async def run(self, arguments: Arguments, session: Session, type_: str, id_: str) -> Json:
        """``id_`` "": of the whole type."""
        record = bool(arguments.one("compartment", False))
        erasing = session.erasing(self._record_types if record else (type_,))
        _check(arguments, type_, id_)
        self._vault.check()
        for _ in range(ATTEMPTS):
            found, more = await self._gathered(erasing, arguments, Key(type_, id_))
            if not arguments.one("keepReferences", False):
                await self._unreferenced(erasing, found, id_ if record else "")
            try:
                erased = await erasing.erase(found.erasures, arguments.one("purpose", ""))
            except Stale:
                continue
            await self._queue.forget({erasure.key.id for erasure in found.erasures})
            gone = keys_of(found.erasures)
            asked = {f"{type_}/{id_}"} if id_ and self._wholly(arguments) else set()
            await self._vault.forget(asked | {str(key) for key in gone})
            return answer(sum(erased.versions), len(gone), more, found.kept)
        raise Conflict("it is being written by others")

    def _wholly(self, arguments: Arguments) -> bool:
        """Is nothing to be left? Then the vault forgets it also where the record did before."""
        return any(bool(arguments.one(name, False)) for name in (SAY[2], SAY[3]))

    async def _gathered(
        self, erasing: Erasing, arguments: Arguments, key: Key
    ) -> tuple[Record, bool]:
        if arguments.one("compartment", False):
            return await erasing.of_patient(key.id, self._base), False
        wanted = Wanted(*(bool(arguments.one(name, False)) for name in (SAY[2], SAY[0], SAY[1])))
        if key.id:
            return Record(await erasing.of_resource(key, wanted)), False
        erasures, more = await erasing.of_type(key.type, wanted, arguments.one("limit", LIMIT))
        return Record(erasures), more

    async def _unreferenced(self, erasing: Erasing, found: Record, patient: str) -> None:
        """Raises Conflict if something that stays refers to what would go.

        What a patient shares with another refers to that patient; of the rest of the
        compartment nothing stays.
        """
        gone = keys_of(found.erasures)
        referring = [Key(*name.split("/")) for name in found.kept if name.count("/") == 1]
        beyond = Not(InPatient((patient,))) if patient else TRUE
        for scans in self._scans(gone, beyond):
            if not referring:
                referring = await erasing.referring(scans, gone)
        if referring:
            raise Conflict(
                "what would be erased is referred to by "
                f"{', '.join(str(key) for key in referring[:10])}: erase them or change them "
                "first, or say keepReferences=true",
                code="conflict",
            )

    def _scans(self, gone: Iterable[Key], beyond: Predicate) -> Iterator[Sequence[Scan]]:
        """Whatever refers to one of these."""
        by_type: dict[str, list[str]] = {}
        for key in gone:
            by_type.setdefault(key.type, []).append(key.id)
        for type_, ids in sorted(by_type.items()):
            indexes: dict[str, set[str]] = {}
            for named in self._schema.revincludes[type_]:
                source, _, code = named.partition(":")
                if source == AUDIT:
                    continue
                rows = self._schema.of(source).parameters[code].indexes
                indexes.setdefault(source, set()).update(rows)
            for start in range(0, len(ids), BATCH):
                some = ids[start : start + BATCH]
                yield [
                    Scan(source, both(Any(_leading(sorted(rows), type_, some)), beyond))
                    for source, rows in sorted(indexes.items())
                ]


def _leading(indexes: Iterable[str], type_: str, ids: Sequence[str]) -> tuple[ReferenceIs, ...]:
    return tuple(ReferenceIs(index, type_, id_) for index in indexes for id_ in ids)


def _check(arguments: Arguments, type_: str, id_: str) -> None:
    """Raises BadRequest for what does not go together."""
    said = [name for name in SAY if arguments.one(name, False)]
    if not said:
        raise BadRequest(f"say what to erase: {', '.join(SAY)}", code="required")
    if "compartment" in said and (type_ != "Patient" or not id_ or len(said) > 1):
        raise BadRequest("compartment stands alone and goes with one Patient", code="value")
    if SAY[2] in said and not id_:
        raise BadRequest("expungeEverything goes with one resource", code="value")
    if arguments.one("limit") is not None and id_:
        raise BadRequest("limit goes with a whole type", code="value")


def answer(versions: int, resources: int, more: bool, kept: Sequence[str]) -> Json:
    """The out parameters."""
    named = [{"name": "kept", "valueReference": {"reference": name}} for name in kept[:NAMED]]
    return {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "count", "valueInteger": versions},
            {"name": "resources", "valueInteger": resources},
            {"name": "more", "valueBoolean": more},
            *named,
        ],
    }
