"""Validation rules, one per file."""
