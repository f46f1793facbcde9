"""The profiles and terminology of published guides, as a server has them, without a server."""

from __future__ import annotations

import asyncio
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from fhir_server.definitions.packages import read_package
from fhir_server.definitions.registry import load
from fhir_server.definitions.structures import Archive, structure
from fhir_server.formats.json import Limits, loads
from fhir_server.model.problem import Issue
from fhir_server.validation.profile.asking import judged
from fhir_server.validation.profile.judging import Question
from fhir_server.validation.profile.profiles import Profiles
from fhir_server.validation.profile.terms import is_in, members
from fhir_server.validation.validate import Validator
from terminology.compose import Composing
from terminology.concepts import Recent
from terminology.published import published

Json = dict[str, Any]
GUIDES = ("hl7.fhir.us.core-6.1.0", "hl7.fhir.uv.ips-1.1.0", "hl7.fhir.uv.ipa-1.0.0")
LIMITS = Limits(body=50_000_000, string=10_000_000, values=5_000_000)
UNSOUND = frozenset({"structure", "extension"})


class World:
    """``archives``: of packages. ``more``: definitions beside them, by type and url."""

    def __init__(self, archives: Sequence[Archive] = (), more: Iterable[Json] = ()) -> None:
        self._archives = archives
        self._more = {(one["resourceType"], one["url"]): one for one in more}
        self._recent = Recent()
        self._kept: dict[tuple[str, str], Any] = {}
        self.answers: dict[Question, Any] = {}
        self.profiles = Profiles(load(), lambda url, _: self.known("StructureDefinition", url))
        self.validator = Validator(load())

    def known(self, type_: str, url: str) -> Any:
        key = type_, url
        if key not in self._kept:
            found = [self._more.get(key), *(one.find(type_, url) for one in self._archives)]
            self._kept[key] = next((one for one in found if one is not None), None)
        if self._kept[key] is None and type_ == "StructureDefinition":
            return structure(url)
        return self._kept[key]

    async def find(self, type_: str, url: str, version: str) -> Any:
        found = self.known(type_, url)
        if found is not None and version in ("", found.get("version")):
            return found
        return published(type_, url, version)

    async def filed(self, code_system: Any) -> None:
        return None

    async def maps(self, system: str, reverse: bool) -> Sequence[Json]:
        return ()

    async def answer(self, question: Question) -> Any:
        if question.kind == "reference":
            return None
        if question not in self.answers:
            work = Composing(self, self._recent)
            if question.kind == "questionnaire":
                found = await self.find("Questionnaire", *_split(question.about))
            elif question.kind == "code":
                found = await is_in(work, question.about, question.system, question.code)
            else:
                found = await members(work, question.about)
            self.answers[question] = found
        return self.answers[question]

    def issues(self, resource: Json, *urls: str) -> list[Issue]:
        """As ``$validate`` finds them."""
        structural = self.validator.issues(resource)
        if any(issue.code in UNSOUND for issue in structural):
            return structural
        found = asyncio.run(judged(self.profiles, resource, urls, self.answer, self.answers))
        said = {(one.code, one.expression) for one in structural}
        return [*structural, *(one for one in found if (one.code, one.expression) not in said)]

    def errors(self, resource: Json, *urls: str) -> list[Issue]:
        return [one for one in self.issues(resource, *urls) if one.severity == "error"]


def _split(canonical: str) -> tuple[str, str]:
    url, _, version = canonical.partition("|")
    return url, version


@cache
def guides(shared: Path) -> World:
    packages = [read_package(shared / "ig" / f"{name}.tgz") for name in GUIDES]
    return World([Archive(one.archive) for one in packages])


def examples(shared: Path) -> Iterator[tuple[str, Json]]:
    """(name, resource) of the guides' examples."""
    for guide in GUIDES:
        with tarfile.open(shared / "ig" / f"{guide}.tgz") as archive:
            for member in archive:
                name = member.name
                if name.startswith("package/example/") and name.endswith(".json"):
                    file = archive.extractfile(member)
                    assert file is not None
                    found = loads(file.read(), LIMITS)
                    if "resourceType" in found:
                        yield f"{guide}/{name.rpartition('/')[2]}", found
