"""The FHIR bases of the server: each the same engine over a store of its own."""
