"""Consent: what a patient's recorded decisions permit, and to whom."""
