"""The search plan: a closed set of frozen dataclasses.

Every read, search, include, count and conditional criterion is one of these; every store
compiles or interprets them, and every ``match`` over them ends in ``assert_never``.
A ``Scan`` is the only place where resources enter a plan, so that a policy can be
conjoined onto each one (``access/restrict.py``).

Sources: https://hl7.org/fhir/R4/search.html; prefixes as in its table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Prefix: TypeAlias = Literal["eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"]
"""How a stored range is compared with the searched range; ``ap`` ranges come widened."""


@dataclass(frozen=True, slots=True)
class All:
    """Conjunction; without parts it is true."""

    parts: tuple[Predicate, ...] = ()


@dataclass(frozen=True, slots=True)
class Any:
    """Disjunction; without parts it is false."""

    parts: tuple[Predicate, ...] = ()


@dataclass(frozen=True, slots=True)
class Not:
    part: Predicate


@dataclass(frozen=True, slots=True)
class IdIn:
    """The logical id is one of these."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UpdatedIs:
    """``meta.lastUpdated`` (a point, microseconds) compared with ``[lo, hi)``."""

    prefix: Prefix
    lo: int
    hi: int


@dataclass(frozen=True, slots=True)
class TokenIs:
    """``system`` None: any, "": none present. ``code`` None: any code of that system."""

    param: str
    system: str | None
    code: str | None


@dataclass(frozen=True, slots=True)
class StringIs:
    """``text`` is as written for "exact", else folded (``values.fold``) like the value, which
    starts with it, ends with it, contains it or is it."""

    param: str
    text: str
    mode: Literal["starts", "exact", "contains", "ends", "is"] = "starts"


@dataclass(frozen=True, slots=True)
class DateIs:
    """Some stored range compared with ``[lo, hi)`` microseconds."""

    param: str
    prefix: Prefix
    lo: int
    hi: int


@dataclass(frozen=True, slots=True)
class NumberIs:
    """Some stored number compared with the searched ``value`` and its precision ``[lo, hi)``.

    gt, lt, ge, le, sa and eb use ``value`` (precision is ignored), eq, ne and ap the range.
    """

    param: str
    prefix: Prefix
    value: float
    lo: float
    hi: float


@dataclass(frozen=True, slots=True)
class QuantityIs:
    """A number with a unit. ``canonical_unit`` not "": value, lo and hi are in that UCUM unit.
    Else ``system`` None: any; ``code`` None: any unit, otherwise it equals the stored code
    or the stored unit text.
    """

    param: str
    prefix: Prefix
    value: float
    lo: float
    hi: float
    system: str | None = None
    code: str | None = None
    canonical_unit: str = ""


@dataclass(frozen=True, slots=True)
class ReferenceIs:
    """Refers to ``type``/``id`` (``type`` None: that id in any type), or to ``url``. ``version`` ""
    matches every version of the reference; ``below``: also ``1.2`` for ``1``."""

    param: str
    type: str | None
    id: str | None
    url: str = ""
    version: str = ""
    below: bool = False


@dataclass(frozen=True, slots=True)
class UriIs:
    """``below``, ``above``: by path segments. ``version``: ``url|1`` means ``url|1.2`` too."""

    param: str
    uri: str
    mode: Literal["exact", "below", "above", "version"] = "exact"


@dataclass(frozen=True, slots=True)
class TextHas:
    """These folded words follow each other in a text; of the last only the beginning (``prefix``).

    ``param`` "_text": the narrative, "_content": everything that is written in the resource
    (``search/words.py``); both are read from the body. Else the index of some strings.
    """

    param: str
    words: tuple[str, ...]
    prefix: bool = False

    @property
    def of_body(self) -> bool:
        return self.param in ("_text", "_content")


@dataclass(frozen=True, slots=True)
class Present:
    """The parameter has at least one value (``:missing=false``).

    Kind "url": a reference neither to a resource of this server nor to one contained (``#id``).
    ``targets``: the types of a reference, so that a policy can ask whether one of them is visible.
    """

    param: str
    kind: Literal["token", "string", "date", "number", "quantity", "reference", "url", "uri"]
    targets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InPatient:
    """In the compartment of one of these patients."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dated:
    """The main date, or ``meta.lastUpdated`` of what has none, is in ``[lo, hi)``."""

    lo: int
    hi: int


@dataclass(frozen=True, slots=True)
class Coded:
    """Some Coding anywhere in the body; ``system`` None: of any system."""

    system: str | None
    code: str


@dataclass(frozen=True, slots=True, eq=False)
class EachPatient:
    """For every patient in whose compartment the resource is, that patient's predicate holds
    (without joins). ``params``: its references to a Patient that put it there. ``shared``: the
    mark of what is in several compartments."""

    rules: Mapping[str, Predicate]
    otherwise: Predicate
    params: tuple[str, ...] = ()
    shared: TokenIs | None = None

    def of(self, patient: str) -> Predicate:
        return self.rules.get(patient, self.otherwise)


@dataclass(frozen=True, slots=True)
class Chain:
    """Some reference in ``param`` leads to a current resource of ``targets``.

    ``canonical``: the values are canonical urls; ``url|version`` leads to that version of the
    resource, ``url`` to each that is stored (https://hl7.org/fhir/R4/references.html#canonical).
    ``inside``: or to a contained resource (``#id``) of these. What may be seen of it is what may
    be seen of its container, so these are apart.
    """

    param: str
    targets: tuple[Scan, ...]
    canonical: bool = False
    inside: tuple[Scan, ...] = ()


@dataclass(frozen=True, slots=True)
class Contains:
    """Some contained resource is of ``scan``.

    A contained resource was updated with its container; of other resources only its container
    refers to it (``Has``), by ``#id``. https://hl7.org/fhir/R4/references.html#contained
    """

    scan: Scan


@dataclass(frozen=True, slots=True)
class Has:
    """Some resource of ``source`` refers here by ``param``; ``canonical`` as of Chain."""

    source: Scan
    param: str
    canonical: bool = False


@dataclass(frozen=True, slots=True)
class Composite:
    """One element of ``param`` for which all parts hold; they name its values by number."""

    param: str
    parts: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True)
class Near:
    """A position at most ``metres`` away, on a sphere. Degrees."""

    param: str
    latitude: float
    longitude: float
    metres: float


Leaf: TypeAlias = (
    IdIn
    | UpdatedIs
    | TokenIs
    | StringIs
    | DateIs
    | NumberIs
    | QuantityIs
    | ReferenceIs
    | UriIs
    | Present
    | Near
    | TextHas
    | InPatient
    | Dated
)
Node: TypeAlias = Chain | Has | Contains | Composite | Coded | EachPatient
Predicate: TypeAlias = All | Any | Not | Leaf | Node

TRUE = All()
FALSE = Any()


@dataclass(frozen=True, slots=True)
class Scan:
    """The current resources of one type for which ``where`` holds."""

    type: str
    where: Predicate = TRUE


@dataclass(frozen=True, slots=True)
class SortKey:
    """``param`` "_main": the main clinical date, "_id", "_lastUpdated", else an index name.

    Resources without a value come last in both directions. Of several values the smallest
    counts ascending, the greatest descending. ``more``: further indexes with values of the same
    parameter.
    """

    param: str
    kind: Literal["main", "id", "updated", "date", "string", "token", "number", "quantity", "uri"]
    descending: bool = False
    more: tuple[str, ...] = ()


DEFAULT_SORT = (SortKey("_main", "main", descending=True),)
"""Order without ``_sort``: newest main clinical date first. The last tie-break of every order
is the order of creation, newest first where the first key descends."""

Cursor: TypeAlias = tuple[int | float | str | None, ...]
"""Sort-key values of the last resource of a page, then its creation number."""


@dataclass(frozen=True, slots=True)
class Include:
    """``_include`` (``reverse`` False): the resources of ``targets`` that a ``source`` match
    refers to by ``param``. ``_revinclude``: the resources of ``source`` that refer by
    ``param`` to a match in ``targets``.

    ``source`` is a Scan as well: on the forward side it only restricts from which type of
    match to follow. ``iterate``: applied to included resources too, until nothing is new.
    ``canonical`` as of Chain.
    """

    source: Scan
    param: str
    targets: tuple[Scan, ...]
    reverse: bool = False
    iterate: bool = False
    canonical: bool = False


@dataclass(frozen=True, slots=True)
class Rest:
    """What the includes add to a page and one answer does not hold.

    ``until``: the place of the last match of the page. ``behind``: the creation number of the
    last resource that was included so far.
    """

    until: Cursor
    behind: int


@dataclass(frozen=True, slots=True)
class Search:
    """One page of a search.

    ``count`` 0 with ``total`` "exact" is ``_summary=count``. ``after``: the cursor of the
    previous page. ``total`` "exact" always counts, "limited" only up to ``TOTAL_LIMIT``,
    "estimate" may say beyond it about how many there are, "none" not at all. ``as_of``: the
    change-feed position at which the plan is run. ``rest``: not the matches of the page that
    ends there, only the rest of what they include.
    """

    scans: tuple[Scan, ...]
    sort: tuple[SortKey, ...] = DEFAULT_SORT
    count: int = 20
    after: Cursor | None = None
    includes: tuple[Include, ...] = ()
    total: Literal["none", "limited", "exact", "estimate"] = "limited"
    as_of: int | None = None
    rest: Rest | None = None


TOTAL_LIMIT = 1000
"""Totals are exact up to this by default, else left out (ruling in ARCHITECTURE.md)."""

INCLUDE_LIMIT = 1000
"""At most this many included resources in one answer; the ``Rest`` is asked for separately."""

INCLUDE_MOST = 50_000
"""More than this is refused, never cut silently."""


@dataclass(frozen=True, slots=True)
class History:
    """Versions, newest first: of one resource (``id``), of a type, or of everything.

    ``since``: microseconds, inclusive. ``at``: only versions that were current at some point
    of this range (inclusive, exclusive). ``before``: continue below this change-feed position.
    """

    type: str | None = None
    id: str | None = None
    since: int | None = None
    at: tuple[int, int] | None = None
    count: int = 20
    before: int | None = None


def both(left: Predicate, right: Predicate) -> Predicate:
    """``left`` and ``right``, without needless nesting."""
    if left in (TRUE, right):
        return right
    if right == TRUE:
        return left
    if FALSE in (left, right):
        return FALSE
    return All((left, right))
