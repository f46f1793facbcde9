"""Reproducible workloads against any FHIR base URL; figures as ratios within one run."""
