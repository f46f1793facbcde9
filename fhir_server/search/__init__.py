"""FHIR search: parameters to a plan, resources to index values, links back."""
