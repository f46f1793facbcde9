"""What floors above may know of the store: types of the ledger, pages, versions, archives."""

from fhir_server.store.archive import ArchiveError, Manifest, Restored, back_up, restore
from fhir_server.store.base import Erasure, Guard, Page, Stale, Versions
from fhir_server.store.blobs import Damaged
from fhir_server.store.elastic.state import KINDS as SEARCH
from fhir_server.store.erase_log import EraseLog, EraseLogError
from fhir_server.store.ledger import Ledger, LedgerWrite, Row
from fhir_server.store.moving import Moved, MoveError, Tell
from fhir_server.store.opening import rebuild_search
from fhir_server.store.places import Place, copy
from fhir_server.store.sealed import SealError, read_key
from fhir_server.store.sqlite.examination import Examination, Look
from fhir_server.store.sqlite.rewriting import Rewritten, rewritten
from fhir_server.store.trail import HasRow

__all__ = [
    "SEARCH",
    "ArchiveError",
    "Damaged",
    "EraseLog",
    "EraseLogError",
    "Erasure",
    "Examination",
    "Guard",
    "HasRow",
    "Ledger",
    "LedgerWrite",
    "Look",
    "Manifest",
    "MoveError",
    "Moved",
    "Page",
    "Place",
    "Restored",
    "Rewritten",
    "Row",
    "SealError",
    "Stale",
    "Tell",
    "Versions",
    "back_up",
    "copy",
    "read_key",
    "rebuild_search",
    "restore",
    "rewritten",
]
