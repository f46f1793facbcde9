"""Roles: the most that a user may do; scopes and care relationships narrow it.

What belongs to a patient is reached through a care relationship with that patient (or because
it is one's own). What belongs to nobody is in ``SHARED``, or in ``ABOUT`` when it may name a
patient outside of the Patient compartment. Every other type is for ``system/`` clients only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

PERSONAL: Final[dict[str, str]] = {
    "Communication": "c",
    "DocumentReference": "c",
    "Observation": "c",
    "QuestionnaireResponse": "cu",
}
"""What patients write into their own record, beside reading all of it."""

AUDIT: Final = "AuditEvent"
UNCHANGED: Final = {AUDIT: frozenset({"update", "patch", "delete"})}
"""Type -> interactions that nobody is permitted, whatever the scope."""
REVIEW: Final = ("urn:vehr:task", "break-glass-review")
"""What the Tasks are coded with that ask for a review."""
RETRAINING: Final = ("urn:vehr:task", "model-retraining")
"""The same of those that propose to train a model anew."""
MESSAGE: Final = ("urn:vehr:communication", "break-glass")
UNTOLD: Final = {
    "Task": ("code", "|".join(REVIEW)),
    "Communication": ("category", "|".join(MESSAGE)),
}
"""What is between the patients and those who review it: that the glass was broken. Others who treat
them would learn by it that something is withheld."""
REVIEWED: Final = (REVIEW, RETRAINING)
GUARDED: Final = frozenset({AUDIT, "Consent"})
"""Written by the server, or by a ceremony of their own; no user scope writes them."""


@dataclass(frozen=True, slots=True)
class Role:
    """``clinical``, ``shared``: letters of SMART scopes (c, r, u, d, s) on what belongs to a
    patient and on what belongs to nobody. ``more``: further letters by type.

    ``launched``: acts only on the patient in context; ``user/`` scopes grant it nothing.
    ``own``: reaches the patient that ``fhirUser`` names without a relationship.
    ``second_factor``: may be made to sign in with one. ``audits``: reads the whole audit trail,
    which else only patients may, each their own. ``breaks_glass``: may read the data of one patient
    in an emergency, whatever else keeps it. ``reviews``: reads and closes the reviews of that.
    ``reidentifies``: is told what pseudonyms stand for.
    """

    clinical: str = ""
    shared: str = ""
    more: dict[str, str] = field(default_factory=dict)
    launched: bool = False
    own: bool = False
    second_factor: bool = True
    audits: bool = False
    breaks_glass: bool = False
    reviews: bool = False
    reidentifies: bool = False

    def permits(self, letter: str, type_: str, *, shared: bool) -> bool:
        if type_ in GUARDED and letter not in "rs":
            return False
        if type_ == AUDIT:
            return self.own or self.audits
        return letter in (self.shared if shared else self.clinical + self.more.get(type_, ""))


ROLES: Final[dict[str, Role]] = {
    "patient": Role("rs", "rs", more=PERSONAL, own=True, second_factor=False),
    "family-doctor": Role("cruds", "rs", breaks_glass=True),
    "consultant": Role("cruds", "rs", breaks_glass=True),
    "specialist": Role("cruds", "rs", breaks_glass=True),
    "nurse": Role("crus", "rs", breaks_glass=True),
    "researcher": Role(),
    "admin": Role("", "cruds", more={"Device": "rs", "Task": "rsu"}, audits=True, reviews=True),
    "custodian": Role("", "rs", reidentifies=True),
    "ai-service": Role("crs", "rs", launched=True, second_factor=False),
}
"""Researchers have no part in the record itself, administrators no clinical part: of Devices they
see those that nobody wears (models)."""

_SHARED: Final = """
    ActivityDefinition CapabilityStatement CatalogEntry ChargeItemDefinition CodeSystem
    CompartmentDefinition ConceptMap DeviceDefinition EffectEvidenceSynthesis Endpoint
    EventDefinition Evidence EvidenceVariable ExampleScenario GraphDefinition HealthcareService
    ImplementationGuide InsurancePlan Library Location Measure Medication MedicationKnowledge
    MedicinalProduct MedicinalProductAuthorization MedicinalProductContraindication
    MedicinalProductIndication MedicinalProductIngredient MedicinalProductInteraction
    MedicinalProductManufactured MedicinalProductPackaged MedicinalProductPharmaceutical
    MedicinalProductUndesirableEffect MessageDefinition NamingSystem ObservationDefinition
    OperationDefinition Organization OrganizationAffiliation PlanDefinition Practitioner
    PractitionerRole Questionnaire ResearchDefinition ResearchElementDefinition ResearchStudy
    RiskEvidenceSynthesis SearchParameter Slot SpecimenDefinition StructureDefinition
    StructureMap Substance SubstanceNucleicAcid SubstancePolymer SubstanceProtein
    SubstanceReferenceInformation SubstanceSourceMaterial SubstanceSpecification
    TerminologyCapabilities TestScript ValueSet"""
SHARED: Final = frozenset(_SHARED.split())
"""Types of R4 that hold no patient's data: actors, places, catalogues and definitions."""

ABOUT: Final[dict[str, tuple[str, bool]]] = {
    "Contract": ("patient", False),
    "Device": ("patient", True),
    "GuidanceResponse": ("patient", False),
    "Task": ("patient", False),
}
"""Types outside of the Patient compartment (R4) that name a patient: by which search parameter,
and whether those that name none are shared (a Device that nobody wears)."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a user is at this moment. ``patients``: whom a relationship, or being oneself that
    patient, lets the user reach. ``fhir_user``: ``Type/id``, empty if the user is nobody in
    the record, who then has no ``user/`` scopes.
    """

    role: str
    fhir_user: str = ""
    patients: tuple[str, ...] = ()

    @property
    def rights(self) -> Role:
        """An unknown role has none."""
        return ROLES.get(self.role, NOTHING)


NOTHING: Final = Role()
