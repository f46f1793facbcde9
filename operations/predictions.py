"""The operations around models: rows in one place."""

from __future__ import annotations

from fhir_server.access.session import Session

from . import review
from .models.registry import Registry
from .models.session_record import IndexNames
from .predict import predict_operation
from .registry import Operation


def model_operations(models: Registry, index: IndexNames, own: Session) -> tuple[Operation, ...]:
    """$predict and $review. ``index``: (resource type, search parameter) -> names of its indexes.
    ``own``: the server's session, by which the Devices are stored that drafts refer to."""
    return predict_operation(models, index, own), review.ROW
