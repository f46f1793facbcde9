"""Outbox and change feed."""
