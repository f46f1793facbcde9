"""The profiles of one state of the definitions, each compiled when it is first used."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from fhir_server.definitions.fhirpath_model import r4_model
from fhir_server.definitions.registry import Definitions
from fhir_server.definitions.snapshot import snapshot
from fhir_server.fhirpath import Context, Node, Services
from fhir_server.fhirpath.node import root
from fhir_server.model.exchange import Json
from fhir_server.model.problem import Issue

from .bindings import member
from .bundle import judge_bundle
from .compile import Compiler
from .extensions import judge_extensions
from .judging import Answers, Check, Judging, place
from .questionnaire import TYPE as RESPONSE
from .questionnaire import judge_response
from .surroundings import Around, resources_of

TYPE: Final = "http://hl7.org/fhir/StructureDefinition/"
Find = Callable[[str, str], Json | None]
UNUSABLE: Final = (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError)
"""What a definition that contradicts itself leads to."""


class Profiles:
    """``find``: a StructureDefinition by url and version ("" any), in whatever form it is."""

    def __init__(self, definitions: Definitions, find: Find) -> None:
        self._find = find
        self._structures: dict[str, Json | None] = {}
        self._checks: dict[str, Check] = {}
        self._making: set[str] = set()
        self._reasons: dict[str, str] = {}
        self._definitions = definitions
        self._compiler = Compiler(definitions, self.structure)

    def structure(self, url: str) -> Json | None:
        """With a snapshot, made if it has none; without one where none can be made. None: it is
        not known.
        """
        if url not in self._structures:
            bare, _, version = url.partition("|")
            found = self._find(bare, version)
            if found is not None and "snapshot" not in found:
                found = self._with_snapshot(url, found)
            self._structures[url] = found
        return self._structures[url]

    def _with_snapshot(self, url: str, found: Json) -> Json:
        if url in self._making:
            return found  # it leads back to itself; as a base that is refused
        self._making.add(url)
        try:
            return {**found, "snapshot": {"element": snapshot(found, self.structure)}}
        except UNUSABLE as error:
            self._reasons[url] = str(error)
            return found
        finally:
            self._making.discard(url)

    def profile(self, url: str) -> Check | None:
        """Of one that cannot be used the check says so."""
        check = self._checks.get(url)
        if check is None:
            found = self.structure(url)
            if found is None:
                return None
            check = self._checks[url] = self._compiled(url, found)
        return check

    def _compiled(self, url: str, found: Json) -> Check:
        if "snapshot" not in found:
            return _unusable(url, self._reasons.get(url, "it has no snapshot"))
        try:
            return self._compiler.compile(found)
        except UNUSABLE as error:
            return _unusable(url, f"{type(error).__name__}: {error}")

    def judge(self, resource: Json, urls: Iterable[str], answers: Answers) -> Judging:
        """One pass: against these profiles, its type and what its resources claim."""
        top = root(resource)
        around = Around(top)
        judging = Judging(self, around, answers, Context())
        judging.context = _context(judging, top)
        try:
            self._judge(top, around, urls, judging)
        except RecursionError:
            text = "its profiles lead from one to the next without end"
            judging.add(top, "too-costly", text)
        return judging

    def _judge(self, top: Node, around: Around, urls: Iterable[str], judging: Judging) -> None:
        asked = [self._against(url, top, judging) for url in urls]
        for node in resources_of(top):
            held = [self._against(one, node, judging, claimed=True) for one in claimed(node.value)]
            if not any(held) and not (node is top and any(asked)):
                self._against(TYPE + node.type, node, judging)
            judge_extensions(node, judging)
            if node.type == RESPONSE:
                judge_response(node, judging)
        judge_bundle(top, around, judging)

    def _against(self, url: str, node: Node, judging: Judging, *, claimed: bool = False) -> bool:
        """Was it held against this profile? That says all that its base says too."""
        structure = self.structure(url)
        if structure is None:
            severity = "warning" if claimed else "error"
            text = f"the profile {url[:200]} is not known here, so it was not checked"
            judging.add(node, "not-found", text, severity=severity)
            return False
        type_ = str(structure.get("type", ""))
        if type_ != node.type and not r4_model().is_subtype(node.type, type_):
            judging.add(node, "structure", f"{url[:200]} is a profile of {type_[:64]}")
            return False
        check = self.profile(url)
        assert check is not None
        judging.run(check, node)
        return True


def _unusable(url: str, why: str) -> Check:
    def check(node: Node, judging: Judging) -> None:
        text = f"the profile {url[:200]} cannot be used: {why[:300]}"
        judging.add(node, "not-supported", text, severity="warning")

    return check


def claimed(resource: Json) -> list[str]:
    """``meta.profile``"""
    meta = resource.get("meta")
    found = meta.get("profile", ()) if isinstance(meta, dict) else ()
    return [url for url in found if isinstance(url, str)]


def _context(judging: Judging, top: Node) -> Context:
    def resolve(text: str) -> Json | None:
        found = judging.resolve(text, top)
        return found.value if found is not None else None

    def member_of(value: Json, url: str) -> bool | None:
        codes = judging.ask("value-set", url)
        return member(codes, root(value), judging) if codes is not None else None

    def conforms_to(value: Json, url: str) -> bool:
        if judging.definitions.structure(url) is None:
            raise ValueError(f"the profile {url} is not known here")
        return judging.conforms(root(value), url)

    services = Services(resolve=resolve, member_of=member_of, conforms_to=conforms_to)
    return Context(model=r4_model(), services=services)


__all__ = ["Issue", "Profiles", "claimed", "place"]
