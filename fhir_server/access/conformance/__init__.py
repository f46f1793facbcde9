"""Definitions beside those of FHIR: installed and stored ones, and validation by them."""
