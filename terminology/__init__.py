"""Terminology service."""
