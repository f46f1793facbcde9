"""What the engine of profiles and the cleaning of free text know of each other.

``await cleaner.prepare(resources, settings)`` once per answer, before anything is rewritten: it
learns the identifiers of the record and runs the model over all free text in one batch. The
``Cleaning`` that it gives is then asked, without waiting, for each text that a rule names, and
at the end ``check`` looks at each finished resource.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from fhir_server.model.exchange import Json

Shift: TypeAlias = Callable[[str], int]
"""The days by which the dates of a subject (``Patient/1``) are moved."""


@dataclass(frozen=True, slots=True)
class Settings:
    """``key``: of the project; the same names get the same surrogates under the same key.

    ``style``: ``surrogate`` (another name, another number of the same form) or ``tag``
    (``[NAME]``). ``dates``: to the ``year``, moved by ``shift``, or gone (``tag``).
    """

    key: bytes
    style: Literal["surrogate", "tag"] = "tag"
    dates: Literal["year", "shift", "tag"] = "year"
    shift: Shift | None = None


class Cleaning(Protocol):
    """The cleaning of one answer. ``subject``: whose text it is (``Patient/1``), empty if nobody's.

    Every method raises Unprocessable where something cannot be cleaned.
    """

    def plain(self, text: str, subject: str = "") -> str:
        """Plain text or Markdown without identifiers."""

    def xhtml(self, div: str, subject: str = "") -> str:
        """A narrative (``Narrative.div``), well-formed as before."""

    def attachment(self, attachment: Json, subject: str = "") -> Json:
        """An Attachment of a text type, its data cleaned, size and hash anew; without anything
        to read it by, without its data."""

    def check(self, resource: Json) -> None:
        """Raises Unprocessable if any string of the finished resource still holds an identifier
        that the record tells."""


class TextCleaner(Protocol):
    """Made once per server."""

    async def prepare(self, resources: Sequence[Json], settings: Settings) -> Cleaning:
        """Raises Unavailable where the model cannot be run."""
