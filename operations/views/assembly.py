"""What a face of the server takes of SQL on FHIR: rows of operations, work and how it is shown."""

from __future__ import annotations

from typing import NamedTuple

from fhir_server.jobs.context import Body
from fhir_server.jobs.pattern import Shown
from fhir_server.jobs.queue import Queue
from operations.bulk.delivery import Judge
from operations.bulk.wanted import Exports
from operations.registry import Operation
from operations.view_export import (
    VIEW_EXPORT,
    ViewDelivery,
    view_export_body,
    view_export_operations,
)
from operations.view_run import view_run_operations

from .source import Source


class Views(NamedTuple):
    """SQL on FHIR of one face."""

    source: Source
    queue: Queue

    def operations(self) -> tuple[Operation, ...]:
        return (
            *view_run_operations(self.source),
            *view_export_operations(self.source, self.queue),
        )

    def work(self) -> dict[str, Body]:
        """Job bodies by kind."""
        return {VIEW_EXPORT: view_export_body(self.source)}

    def shown(self, judge: Judge) -> dict[str, Shown]:
        """How those jobs are shown."""
        return {VIEW_EXPORT: ViewDelivery(self.source, self.queue.files, judge)}


def views(exports: Exports, queue: Queue) -> Views:
    return Views(Source(exports), queue)
