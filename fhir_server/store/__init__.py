"""Stores: every store compiles or interprets the search plan."""
