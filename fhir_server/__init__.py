"""vEHR: a FHIR R4 (4.0.1) REST server with embedded AI operations."""

__version__ = "0.1.0"
