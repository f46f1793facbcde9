"""Releases of code systems as concepts: one file per format, a row for each in ``formats.py``."""
