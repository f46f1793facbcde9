"""What is around models but their registry: operations, the job of a Group, the follower."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fhir_server.access.engine import Engine
from fhir_server.access.feed import Feed
from fhir_server.access.gate import system_session
from fhir_server.access.session import Session
from fhir_server.jobs.context import Body
from fhir_server.jobs.pattern import Shown
from fhir_server.jobs.queue import Queue

from . import review
from .infer import inference_operations
from .model_train import KIND as TRAIN
from .model_train import ModelTraining
from .models.administration import Administration
from .models.automatic import NAME, Automatic
from .models.registry import Registry
from .models.session_record import IndexNames
from .predict import predict_operation
from .predict_group import KIND, GroupDelivery, GroupPredictions
from .registry import Operation


@dataclass(frozen=True, slots=True)
class Predictions:
    """``index``: (resource type, search parameter) -> names of its indexes. ``own``: the server's
    session, by which the Devices are stored that drafts refer to."""

    models: Registry
    index: IndexNames
    own: Session
    queue: Queue
    administration: Administration

    def rows(self) -> tuple[Operation, ...]:
        """$predict, $review, $model-train, and models by tensors."""
        alone = predict_operation(self.models, self.index, self.own)
        further = inference_operations(self.models)
        training = self._training().operation()
        return alone, self._group().operation(), review.ROW, training, *further

    def work(self) -> Mapping[str, Body]:
        """Bodies by kind of job."""
        return {KIND: self._group().body(), TRAIN: self._training().body()}

    def shown(self) -> Mapping[str, Shown]:
        """How their results are shown, by kind of job."""
        return {KIND: GroupDelivery(self.queue.files)}

    @asynccontextmanager
    async def following(self, engine: Engine, quiet: int) -> AsyncIterator[None]:
        """Drafts follow the record meanwhile; ``quiet``: seconds, 0: they do not."""
        if not quiet:
            yield
            return
        session = system_session(engine, NAME)
        feed = Feed(engine, NAME, secrets.token_hex(8))
        follower = Automatic(self.models, self.index, session, feed, quiet)
        task = asyncio.create_task(follower.run(), name=NAME)
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _group(self) -> GroupPredictions:
        return GroupPredictions(self.models, self.index, self.own, self.queue)

    def _training(self) -> ModelTraining:
        return ModelTraining(self.administration, self.index, self.queue)
