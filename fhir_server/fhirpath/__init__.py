"""FHIRPath (http://hl7.org/fhirpath/N1/): parse to an AST, evaluate over JSON resources."""

from fhir_server.fhirpath.context import Budget, Context, Services
from fhir_server.fhirpath.errors import (
    FhirPathBudgetError,
    FhirPathError,
    FhirPathNotSupported,
    FhirPathSyntaxError,
)
from fhir_server.fhirpath.evaluate import Expression, compile, locate
from fhir_server.fhirpath.node import Node, Property, TypeModel

__all__ = [
    "Budget",
    "Context",
    "Expression",
    "FhirPathBudgetError",
    "FhirPathError",
    "FhirPathNotSupported",
    "FhirPathSyntaxError",
    "Node",
    "Property",
    "Services",
    "TypeModel",
    "compile",
    "locate",
]
