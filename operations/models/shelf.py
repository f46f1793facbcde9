"""Where the packages that were pushed come from: their Binary in the blob store.

Each process reads an archive once, by the process that has the limits, and puts its files
under their known names into a temporary folder of its own, for the workers to load.
"""

from __future__ import annotations

import asyncio
from binascii import a2b_base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from fhir_server.access.session import Session
from fhir_server.formats.json import loads
from fhir_server.model.problem import Gone, NotFound, ServerError, Unprocessable
from fhir_server.model.resource import Key

from .intake.receiving import receive, refused
from .package import ModelPackage, PackageError, digests, of_parts
from .state import Kept, ModelState


class Shelf:
    """``own``: the server's session for models."""

    def __init__(self, state: ModelState, own: Session) -> None:
        self.state = state
        self.own = own
        self._folder: TemporaryDirectory[str] | None = None

    async def fetch(self, kept: Kept) -> ModelPackage:
        """Raises PackageError."""
        try:
            files = await receive(await content(self.own, Key("Binary", kept.binary)))
        except (NotFound, Gone, ServerError, Unprocessable) as problem:
            raise PackageError(str(problem)) from problem
        if digests(files) != kept.files:
            raise PackageError("its content is not what was pushed")
        return await asyncio.to_thread(self.placed, kept.id, files)

    def placed(self, id_: str, files: dict[str, bytes]) -> ModelPackage:
        """The package, its files in a folder of this process. Raises PackageError."""
        folder = self._place() / id_
        folder.mkdir(mode=0o700, exist_ok=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)
        return of_parts(files, folder)

    @contextmanager
    def incoming(self, files: dict[str, bytes]) -> Iterator[ModelPackage]:
        """The same for a while. Raises Unprocessable."""
        with TemporaryDirectory(dir=self._place(), prefix="incoming-") as folder:
            try:
                yield self.placed(Path(folder).name, files)
            except PackageError as error:
                raise refused(str(error)) from None

    def _place(self) -> Path:
        if self._folder is None:
            self._folder = TemporaryDirectory(prefix="vehr-models-")
        return Path(self._folder.name)

    def close(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None


async def content(session: Session, key: Key) -> bytes:
    """The content of a Binary that this session reads. Raises NotFound, Gone, ServerError."""
    stored = await session.read(key)
    found = await session.content(stored)
    if found is None:
        return a2b_base64(loads(stored.body).get("data", ""))
    return b"".join([part async for part in await found.read()])
