"""The whole way: read, make, push, stand beside the champion as its challenger."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from fhir_server.access.session import Session
from fhir_server.model.problem import Unprocessable

from ..administration import Administration, By
from ..package import ModelPackage
from ..session_record import IndexNames
from ..state import CHALLENGER
from .dataset import DataSet
from .fitting import versions
from .gathering import Gathering, Told
from .packaging import unfinished
from .spec import read_spec

Files: TypeAlias = dict[str, bytes]
Making: TypeAlias = Callable[[str, DataSet], Awaitable[Files]]
"""``making.make``, run where it keeps nobody waiting."""


@dataclass(frozen=True, slots=True)
class Training:
    """``session``: in whose name the record is read."""

    administration: Administration
    session: Session
    index: IndexNames
    making: Making

    async def files(self, text: str, told: Told) -> Files:
        """The candidate of a specification. Raises Unprocessable, NotSupported, NotFound."""
        spec = read_spec(text)
        if spec.cohort is not None:
            raise Unprocessable(f"made of the cohort {spec.cohort.table}, not of the record")
        versions()
        registry = self.administration.registry
        gathering = Gathering(spec, unfinished(spec), self.session, self.index, registry)
        return await self.making(text, await gathering.run(told))

    async def challenge(self, files: Mapping[str, bytes], by: By) -> ModelPackage:
        """Pushed, and computing beside the champion unseen; nobody is answered by it. Again: no
        difference."""
        package = await self.administration.push(archived(files), "", by)
        card = package.card
        if self.administration.registry.challengers.get(card.name) != card.version:
            await self.administration.activate(card.name, card.version, CHALLENGER, by)
        return package


def reason(text: str, given: str = "") -> str:
    """Why there is a candidate: the words given, or the specification that it was made by."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    return given or f"trained by the specification with sha256 {digest}"


def archived(files: Mapping[str, bytes]) -> bytes:
    """As a tar archive, the same for the same files."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(files):
            info = tarfile.TarInfo(name)
            info.size = len(files[name])
            archive.addfile(info, io.BytesIO(files[name]))
    return target.getvalue()
