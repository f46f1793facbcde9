"""One run: what is shared by all resources of one answer. Random codes, the tally, the year."""

from __future__ import annotations

import hmac
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from secrets import token_bytes
from typing import Any, Final, NamedTuple, TypeAlias
from uuid import UUID, uuid4

from fhir_server.model.exchange import Json
from fhir_server.model.problem import BadRequest
from operations.deid.keys import SIZE, ProjectKey
from operations.deid.text.contract import Cleaning

DATA_ABSENT_REASON: Final = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"
"""https://hl7.org/fhir/R4/extension-data-absent-reason.html"""

_LITERAL = re.compile(
    r"(?:(?P<base>https?://.*)/)?(?P<type>[A-Z][A-Za-z]+)/(?P<id>[A-Za-z0-9\-.]{1,64})"
    r"(?:/_history/[A-Za-z0-9\-.]{1,64})?(?:#.*)?"
)


def masked() -> Json:
    """An element whose value was taken away."""
    return {"extension": [{"url": DATA_ABSENT_REASON, "valueCode": "masked"}]}


class Outcome(Enum):
    """What a leaf gives instead of a value. MASKED leaves a data-absent-reason in its place."""

    DROP = "removed"
    MASKED = "masked"


DROP: Final = Outcome.DROP
MASKED: Final = Outcome.MASKED


class Touch(NamedTuple):
    """What happened to ``name`` (empty: the element itself) and by which rule (None: by the
    profile's default)."""

    rule: int | None
    name: str
    what: str


class Tally:
    """Counts at one element and, by name, at the elements below."""

    __slots__ = ("below", "counts")

    def __init__(self) -> None:
        self.below: dict[str, Tally] = {}
        self.counts: Counter[Touch] = Counter()

    def at(self, name: str) -> Tally:
        found = self.below.get(name)
        if found is None:
            found = self.below[name] = Tally()
        return found

    def absorb(self, other: Tally) -> None:
        self.counts.update(other.counts)
        for name, below in other.below.items():
            self.at(name).absorb(below)

    def to_json(self) -> list[list[Any]]:
        """As it is kept between two pages of an export."""
        return [[path, *touch, count] for path, touch, count in self.lines()]

    def add(self, lines: Iterable[Iterable[Any]]) -> None:
        """What ``to_json`` gave."""
        for path, rule, name, what, count in lines:
            at = self
            above = path[: -len(name) - 1] if name else path
            for step in above.split(".") if above else ():
                at = at.at(step)
            at.counts[Touch(rule, name, what)] += count

    def lines(self, path: str = "") -> Iterator[tuple[str, Touch, int]]:
        """Every count with the path of its element."""
        for touch, count in self.counts.items():
            yield (f"{path}.{touch.name}" if touch.name else path), touch, count
        for name, below in self.below.items():
            yield from below.lines(f"{path}.{name}" if path else name)


Codes: TypeAlias = Callable[[str], str]
"""The code of a resource (``Patient/1``), the same for as long as the run."""


class RandomCodes:
    """Codes that nothing but this object can tell apart from others."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._codes: dict[str, str] = {}

    def __call__(self, key: str) -> str:
        code = self._codes.get(key)
        if code is None:
            code = self._codes[key] = self._new_id()
        return code


class DrawnCodes:
    """Codes by a secret that was drawn for one export and is destroyed with it: random to
    everybody else, and the same on every page of it."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def __call__(self, key: str) -> str:
        return _as_uuid(hmac.digest(self._secret, key.encode(), "sha256"))


class About(NamedTuple):
    """The resource that is being walked, and whose it is: ``Patient/1``, the resource itself
    if it names no patient or several. ``local``: the codes of what it contains."""

    resource: str
    subject: str
    local: dict[str, str]


class Coded(NamedTuple):
    """A literal reference, coded; ``type``: of its target if that is told; ``resolves``: the
    target stands where whoever reads it finds it."""

    text: str
    type: str | None
    resolves: bool


class Run:
    """``year``: today's. ``base``: the server's own base URL. ``new_id`` must be random.

    ``key``: of the project, for what has to be the same in every run; without it what is keyed is
    so by a secret of this run alone, and there are no pseudonyms. ``codes``: other random codes
    than those of this object. ``relative``: references read ``Patient/code``, else ``urn:uuid:``.

    ``cleaning``: of free text, with the identifiers of these ``people`` (``Patient/1``).
    ``tally``: the counts by resource type; ``at``: those of the element being walked.
    ``here``: what a ``urn:uuid:`` finds, the entries (``Patient/1``) of the Bundle around it; None:
    no Bundle, everything is found.
    """

    __slots__ = (
        "_aliases", "_base", "_codes", "_pseudonyms", "_secrets", "about", "at", "cleaning",
        "here", "inside", "key", "new_id", "people", "relative", "tally", "year",
    )  # fmt: skip

    def __init__(
        self,
        year: int,
        base: str = "",
        new_id: Callable[[], str] | None = None,
        key: ProjectKey | None = None,
        codes: Codes | None = None,
        relative: bool = False,
    ) -> None:
        self.year = year
        self.new_id = new_id or (lambda: str(uuid4()))
        self.key = key or ProjectKey("", 0, token_bytes(SIZE))
        self.relative = relative
        self.tally = Tally()
        self.at = self.tally
        self.inside = False
        self.here: frozenset[str] | None = None
        self.about = About("", "", {})
        self.cleaning: Cleaning | None = None
        self.people: frozenset[str] = frozenset()
        self._base = base.rstrip("/")
        self._codes = codes or RandomCodes(self.new_id)
        self._pseudonyms: dict[str, str] = {}
        self._secrets: dict[str, bytes] = {}
        self._aliases: dict[str, str] = {}

    def secret(self, purpose: str) -> bytes:
        """The project's key for one purpose, or this run's."""
        found = self._secrets.get(purpose)
        if found is None:
            found = self._secrets[purpose] = self.key.derive(purpose)
        return found

    @property
    def issued(self) -> Mapping[str, str]:
        """Resources (``Patient/1``) and the pseudonyms that this run gave them."""
        return self._pseudonyms

    def alias(self, url: str, key: str) -> None:
        """References to ``url`` mean the resource ``key`` (``Patient/1``)."""
        self._aliases[url] = key

    def learn(self, resource: Json) -> None:
        """Take the fullUrls of a Bundle, and of Bundles in it, as other names of its resources."""
        for entry in _dicts(resource.get("entry")):
            inner, url = entry.get("resource"), entry.get("fullUrl")
            if isinstance(inner, dict):
                if isinstance(url, str) and "id" in inner:
                    self.alias(url, f"{inner.get('resourceType')}/{inner['id']}")
                self.learn(inner)
        for parameter in _dicts(resource.get("parameter")):
            if isinstance(parameter.get("resource"), dict):
                self.learn(parameter["resource"])

    def named(self, resource: Json, url: str | None) -> str:
        """``Patient/1``; without an id what the fullUrl of its entry means; "" without one."""
        if "id" in resource:
            return f"{resource.get('resourceType')}/{resource['id']}"
        return self.meant(url)[0] if url else ""

    def open_bundle(self, bundle: Json) -> frozenset[str] | None:
        """A Bundle that stays one: references in it find its own entries, by their fullUrls.
        Returns what they found before."""
        urls = [entry.get("fullUrl") for entry in _dicts(bundle.get("entry"))]
        outer = self.here
        self.here = frozenset(self.meant(url)[0] for url in urls if isinstance(url, str))
        return outer

    def code(self, key: str, keyed: bool = False) -> str:
        """The code of a resource: random, or its pseudonym in the project."""
        key = self._aliases.get(key, key)
        return self._pseudonym(key) if keyed else self._codes(key)

    def _pseudonym(self, key: str) -> str:
        made = self._pseudonyms.get(key)
        if made is None:
            self.require_project()
            digest = hmac.digest(self.secret("pseudonym"), key.encode(), "sha256")
            made = self._pseudonyms[key] = _as_uuid(digest)
        return made

    def require_project(self) -> None:
        """Raises BadRequest if no project's key was given."""
        if not self.key.project:
            text = "this profile makes pseudonyms: say for which project"
            raise BadRequest(text, code="required")

    def open_container(self, resource: str, subject: str) -> About:
        """A resource begins: names of contained resources are its own. Returns what was before."""
        outer, self.about = self.about, About(resource, subject, {})
        return outer

    def close_container(self, outer: About) -> None:
        self.about = outer

    def contained_code(self, name: str) -> str:
        local = self.about.local
        return local.setdefault(name, f"c{len(local) + 1}")

    def meant(self, reference: str) -> tuple[str, str | None]:
        """What a literal reference that is not to a contained resource means: the resource
        (``Patient/1``; else the reference as it is) and its type if it is told."""
        alias = self._aliases.get(reference)
        if alias is not None:
            return alias, alias.partition("/")[0]
        literal = _LITERAL.fullmatch(reference)
        if literal is None:
            return reference, None
        key = f"{literal['type']}/{literal['id']}"
        if literal["base"] not in (None, self._base):
            url = f"{literal['base']}/{key}"
            key = self._aliases.get(url, url)
        return key, literal["type"]

    def reference(self, reference: str, keyed: bool = False) -> Coded:
        """The coded form of a literal reference."""
        if reference.startswith("#"):
            local = reference[1:]
            return Coded(f"#{self.contained_code(local)}" if local else "#", None, True)
        key, type_ = self.meant(reference)
        code = self.code(key, keyed)
        if self.relative and type_:
            return Coded(f"{type_}/{code}", type_, True)
        found = not self.relative if self.here is None else key in self.here
        return Coded(f"urn:uuid:{code}", type_, found)


def _as_uuid(digest: bytes) -> str:
    """Version 8 of RFC 9562: bits of one's own making."""
    made = bytearray(digest[:16])
    made[6], made[8] = made[6] & 0x0F | 0x80, made[8] & 0x3F | 0x80
    return str(UUID(bytes=bytes(made)))


def _dicts(value: Any) -> Iterable[Json]:
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else ()
