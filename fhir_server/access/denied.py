"""What was asked for by its id and not found: was it consent that denied it?

It is worked out after the answer and away from it, of what the answer's own look has found: a
reader waits for nothing, asks the store for nothing more, and cannot tell hidden from absent by
the time that the reason takes. What is found goes to the audit trail alone.
"""

from __future__ import annotations

from functools import partial

from fhir_server.access.audit.entry import Decision, Recording
from fhir_server.access.consent.policy import ConsentPolicy
from fhir_server.access.consent.telling import denying, facts_of
from fhir_server.access.contents import context_of
from fhir_server.access.engine import Engine
from fhir_server.access.policy import BINARY, Policy
from fhir_server.access.versions import visible
from fhir_server.formats.json import loads
from fhir_server.model.resource import Stored


def unseen(
    recording: Recording | None,
    engine: Engine,
    policy: Policy,
    letter: str,
    stored: Stored | None,
) -> None:
    """Noted of something that was not found. ``stored``: what there is of it."""
    if recording is not None and isinstance(policy, ConsentPolicy):
        recording.later.append(partial(_against, engine, policy, letter, stored))


async def _against(
    engine: Engine, policy: ConsentPolicy, letter: str, stored: Stored | None
) -> list[Decision]:
    if stored is not None and stored.key.type == BINARY and not stored.deleted:
        target = context_of(loads(stored.body))
        stored = (await engine.store.current([target]))[0] if target is not None else None
    if stored is None or stored.deleted:
        return []
    if not visible(engine, policy.inner.sees(letter, stored.key.type), stored):
        return []
    facts = facts_of(stored, engine.extract(loads(stored.body)))
    return denying(facts, letter, policy.reader, policy.rules)
