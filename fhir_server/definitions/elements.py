"""The shapes of definitions: types, elements, search parameters, operations.

They are the records of the compiled artefact as well: ``registry.load`` decodes straight
into them. Sources: https://hl7.org/fhir/R4/structuredefinition.html,
https://hl7.org/fhir/R4/searchparameter.html, https://hl7.org/fhir/R4/operationdefinition.html
"""

from __future__ import annotations

from msgspec import Struct

UNBOUNDED = "*"


class TypeRef(Struct, frozen=True, array_like=True):
    """A type that an element may have: ``string``, ``Reference``, ``BackboneElement``.

    ``targets``: resource types of a Reference or canonical; () = any.
    ``profiles``: canonical urls that the value conforms to, for example SimpleQuantity.
    """

    code: str
    targets: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()


class Binding(Struct, frozen=True, array_like=True):
    """``strength``: required, extensible, preferred, example. ``value_set``: url, no version."""

    strength: str
    value_set: str


class Constraint(Struct, frozen=True, array_like=True):
    """An invariant. ``severity``: error, warning. ``expression``: FHIRPath, errata applied."""

    key: str
    severity: str
    human: str
    expression: str


class Element(Struct, frozen=True, array_like=True):
    """One element of a snapshot.

    ``path``: as in the snapshot (``Observation.value[x]``). ``name``: its last part without
    ``[x]``. ``max``: None = ``*``. ``content_reference``: path of the element whose children
    it shares. ``representation``: ``xmlAttr``, ``xhtml`` or None.
    ``constraints``: the element's own; those of its type are the type's.
    """

    path: str
    name: str
    min: int
    max: int | None
    types: tuple[TypeRef, ...] = ()
    choice: bool = False
    content_reference: str | None = None
    binding: Binding | None = None
    summary: bool = False
    modifier: bool = False
    representation: str | None = None
    constraints: tuple[Constraint, ...] = ()

    def json_name(self, type_code: str) -> str:
        """The JSON member that holds a value of this type: ``valueQuantity``."""
        if not self.choice:
            return self.name
        return self.name + type_code[0].upper() + type_code[1:]


class TypeDefinition(Struct, frozen=True, array_like=True):
    """A resource type or datatype.

    ``kind``: resource, complex-type, primitive-type. ``base``: the parent type's name.
    ``elements``: by path in the order of the snapshot, the root first; a primitive type has
    ``id`` and ``extension`` only, its value is described by ``pattern`` (a regular expression
    for the whole lexical value, as published; None = any).
    """

    name: str
    kind: str
    abstract: bool
    base: str | None
    elements: dict[str, Element]
    pattern: str | None = None

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """Its own invariants; those of ``base`` apply as well."""
        return self.elements[self.name].constraints


class Component(Struct, frozen=True, array_like=True):
    """A part of a composite parameter; ``expression`` starts at the composite's elements."""

    definition: str
    expression: str


class SearchParameter(Struct, frozen=True, array_like=True):
    """``expression`` is FHIRPath for all ``bases``, errata applied; None where FHIR has none
    (``_text``, ``_content``, ``_query``, ``_filter``)."""

    code: str
    url: str
    type: str
    expression: str | None
    bases: tuple[str, ...]
    targets: tuple[str, ...] = ()
    components: tuple[Component, ...] = ()
    multiple_or: bool = True
    multiple_and: bool = True
    comparators: tuple[str, ...] = ()
    modifiers: tuple[str, ...] = ()
    usage: str = "normal"
    description: str = ""


class OperationParameter(Struct, frozen=True, array_like=True):
    """``use``: in, out. ``max``: None = ``*``. ``type``: None when it has ``parts``."""

    name: str
    use: str
    min: int
    max: int | None
    type: str | None = None
    targets: tuple[str, ...] = ()
    search_type: str | None = None
    parts: tuple[OperationParameter, ...] = ()


class OperationDefinition(Struct, frozen=True, array_like=True):
    """``kind``: operation, query. ``resources``: types that it is defined on."""

    id: str
    url: str
    code: str
    kind: str
    system: bool
    type: bool
    instance: bool
    affects_state: bool
    resources: tuple[str, ...] = ()
    parameters: tuple[OperationParameter, ...] = ()


class Package(Struct, array_like=True):
    """The whole artefact.

    ``compartments``: code -> type -> parameter codes. ``value_sets``: url -> system -> codes,
    None where the codes are not in the package. ``code_systems``: url -> caseSensitive.
    """

    name: str
    version: str
    types: tuple[TypeDefinition, ...]
    search_parameters: tuple[SearchParameter, ...]
    compartments: dict[str, dict[str, tuple[str, ...]]]
    value_sets: dict[str, dict[str, tuple[str, ...]] | None]
    code_systems: dict[str, bool | None]
    operations: tuple[OperationDefinition, ...]
