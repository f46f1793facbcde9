"""The FHIR R4 definitions, compiled once into an artefact and read at start."""
