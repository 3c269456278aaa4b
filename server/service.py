"""RecommendationService without a transport: messages and calls in, messages or domain errors out.

Each method admits, decodes, queues, waits and encodes; the deadline is looked at before each of these stages (here, in
`MicroBatcher.submit`, and when the engine begins a batch).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from twinrank.v1 import recommendation_pb2 as pb

from server.admission import Admission
from server.batching import Answered, MicroBatcher
from server.call import Call, RequestIds
from server.config import ServerConfig
from server.decoding import Decoder
from server.domain import Query, UnknownItem
from server.encoding import encode_recommend, encode_score, encode_similar_items
from server.errors import DeadlinePassed, ItemNotFound, NoGeneration


class RecommendationService:
    """The unary methods, and what streams share with them: the decoder, the batcher, the ids."""

    def __init__(self, config: ServerConfig, batcher: MicroBatcher) -> None:
        limits = config.limits
        self._config = config
        self.batcher = batcher
        self.admission = Admission("calls", limits.concurrent_rpcs_max, limits.retry_after_ms)
        self.request_ids = RequestIds()
        self._decoder: Decoder | None = None
        self._decoder_generation_id = ""

    def decoder(self) -> Decoder:
        """The decoder for the engine that will answer next. Raises `NoGeneration`."""
        engine = self.batcher.engine
        if engine is None:
            raise NoGeneration
        if self._decoder is None or engine.generation_id != self._decoder_generation_id:
            self._decoder = Decoder(self._config, engine.event_types, engine.context_columns)
            self._decoder_generation_id = engine.generation_id
        return self._decoder

    async def recommend(self, request: pb.RecommendRequest, call: Call) -> pb.RecommendResponse:
        """One shopper, one list."""
        call.request_id = self.request_ids.of(request.request_id)
        self._admit(call)
        try:
            query = self.decoder().recommend(request, time.time())
            answered = await self._answer_one(query, call)
        finally:
            self.admission.leave()
        return encode_recommend(call.request_id, query, answered, timings=request.read_options.timings)

    async def batch_recommend(self, request: pb.BatchRecommendRequest, call: Call) -> pb.BatchRecommendResponse:
        """Several shoppers; all or nothing."""
        call.request_id = self.request_ids.of("")
        self._admit(call)
        try:
            queries = self.decoder().batch_recommend(request, time.time())
            answers = await self._answer_all(queries, call)
        finally:
            self.admission.leave()
        responses = [
            encode_recommend(self.request_ids.of(entry.request_id), query, answered, timings=entry.read_options.timings)
            for entry, query, answered in zip(request.requests, queries, answers, strict=True)
        ]
        return pb.BatchRecommendResponse(responses=responses)

    async def score(self, request: pb.ScoreRequest, call: Call) -> pb.ScoreResponse:
        """Given items, for one shopper."""
        call.request_id = self.request_ids.of(request.request_id)
        self._admit(call)
        try:
            query = self.decoder().score(request, time.time())
            answered = await self._answer_one(query, call)
        finally:
            self.admission.leave()
        return encode_score(call.request_id, answered, len(query.item_ids))

    async def similar_items(self, request: pb.SimilarItemsRequest, call: Call) -> pb.SimilarItemsResponse:
        """Neighbours of one item. Raises `ItemNotFound` when the generation does not hold it."""
        call.request_id = self.request_ids.of(request.request_id)
        self._admit(call)
        try:
            query = self.decoder().similar_items(request)
            answered = await self._answer_one(query, call)
        finally:
            self.admission.leave()
        if isinstance(answered.answer, UnknownItem):
            raise ItemNotFound(answered.answer.item_id, answered.answer.generation_id)
        return encode_similar_items(call.request_id, answered)

    def _admit(self, call: Call) -> None:
        if time.monotonic() >= call.deadline_s:
            raise DeadlinePassed("work could begin")
        self.admission.enter()

    async def _answer_one(self, query: Query, call: Call) -> Answered:
        [future] = self.batcher.submit((query,), call.deadline_s)
        call.answered = answered = await future
        return answered

    async def _answer_all(self, queries: Sequence[Query], call: Call) -> list[Answered]:
        futures = self.batcher.submit(queries, call.deadline_s)
        try:
            answers = await asyncio.gather(*futures)
        except BaseException:
            for future in futures:
                future.cancel()
            raise
        call.answered = answers[0]
        return answers
