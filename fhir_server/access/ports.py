"""What floors above may know of the store: the ledger's type, pages and versions."""

from fhir_server.store.base import Guard, Page, Stale, Versions
from fhir_server.store.ledger import Ledger, LedgerWrite, Row

__all__ = ["Guard", "Ledger", "LedgerWrite", "Page", "Row", "Stale", "Versions"]
