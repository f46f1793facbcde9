"""Structural validation: closures compiled from the definitions."""
