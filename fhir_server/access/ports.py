"""What floors above may know of the store: the ledger's type, pages and versions."""

from fhir_server.store.base import Erasure, Guard, Page, Stale, Versions
from fhir_server.store.blobs import Damaged
from fhir_server.store.ledger import Ledger, LedgerWrite, Row
from fhir_server.store.sqlite.examination import Examination, Look

__all__ = [
    "Damaged",
    "Erasure",
    "Examination",
    "Guard",
    "Ledger",
    "LedgerWrite",
    "Look",
    "Page",
    "Row",
    "Stale",
    "Versions",
]
