"""RecommendationService without a transport: messages and calls in, encoded messages or domain errors out.

Each call is admitted, decoded, queued, waited for and encoded; the deadline is looked at before each of these stages
(here, in `MicroBatcher.check`, and when the engine begins a batch). `begin` and the `Work` that it returns are the same
for every front; `answer` adds the waiting on an event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from google.protobuf.message import Message
from twinrank.v1 import recommendation_pb2 as pb

from server import list_wire, plain_requests, response_wire
from server.admission import Admission
from server.batching import MicroBatcher
from server.call import Call, RequestIds
from server.config import ServerConfig
from server.decoding import Decoder
from server.domain import Query, UnknownItem
from server.encoding import encode_batch_recommend, encode_recommend, encode_score, encode_similar_items
from server.errors import DeadlinePassed, ItemNotFound, NoGeneration
from server.plain_requests import PlainRequest
from server.waiting import Answered

_LOGGER = logging.getLogger(__name__)


class Work(NamedTuple):
    """A decoded call: what it asks of the engine, and what makes its response of the answers."""

    queries: Sequence[Query]
    encode: Callable[[Sequence[Answered]], bytes]
    """The response on the wire. May raise a domain error, such as `ItemNotFound`."""


@dataclass(frozen=True, slots=True)
class UnaryMethod:
    """One method with one request and one response."""

    name: str
    request_type: Any
    decode: Callable[[Any, Call], Work]


class RecommendationService:
    """The unary methods, and what streams share with them: the decoder, the batcher, the ids."""

    def __init__(self, config: ServerConfig, batcher: MicroBatcher) -> None:
        for kernels in (list_wire, response_wire, plain_requests):
            kernels.warm()  # or the first call would wait for them, longer than its deadline
        limits = config.limits
        self._config = config
        self.batcher = batcher
        self.admission = Admission("calls", limits.concurrent_rpcs_max, limits.retry_after_ms)
        self.request_ids = RequestIds()
        self._decoder: tuple[str, Decoder] | None = None
        self.methods = (
            UnaryMethod("Recommend", pb.RecommendRequest, self._recommend),
            UnaryMethod("BatchRecommend", pb.BatchRecommendRequest, self._batch_recommend),
            UnaryMethod("Score", pb.ScoreRequest, self._score),
            UnaryMethod("SimilarItems", pb.SimilarItemsRequest, self._similar_items),
        )

    def decoder(self) -> Decoder:
        """The decoder for the engine that will answer next. Raises `NoGeneration`."""
        engine = self.batcher.engine
        if engine is None:
            raise NoGeneration
        known = self._decoder
        if known is None or known[0] != engine.generation_id:
            decoder = Decoder(self._config, engine.event_types, engine.context_columns, engine.attributes)
            known = (engine.generation_id, decoder)
            self._decoder = known
        return known[1]

    def begin(self, method: UnaryMethod, request: Message, call: Call) -> Work:
        """Admits and decodes one call; who gets its work gives the permit back with `admission.leave()`.

        Raises:
            InvalidRequest, DeadlinePassed, TooManyInFlight, NoGeneration, ShuttingDown: no permit is held.
        """
        call.request_id = self.request_ids.of(getattr(request, "request_id", ""))
        self.admit(1, call.deadline_s)
        try:
            return method.decode(request, call)
        except BaseException:
            self.admission.leave()
            raise

    def plain(self, raws: Sequence[bytes]) -> list[PlainRequest | None]:
        """What Recommend's requests, as their bytes, ask, each with an id; None for what is not plain: parse it and
        `begin`."""
        try:
            plain = self.decoder().plain(raws, time.time())
        except NoGeneration:
            return [None] * len(raws)
        except Exception:  # one burst's fault must not fail its calls: each is parsed for itself
            _LOGGER.exception("a burst of %d requests could not be read at once", len(raws))
            return [None] * len(raws)
        return [request and (self.request_ids.of(request[0]), request[1]) for request in plain]

    def admit(self, count: int, deadline_s: float) -> None:
        """Admits calls, all or none; who gets the permits gives them back with `admission.leave(count)`.

        Raises:
            DeadlinePassed, TooManyInFlight, ShuttingDown: no permit is held.
        """
        if time.monotonic() >= deadline_s:
            raise DeadlinePassed("work could begin")
        self.admission.enter(count)

    async def answer(self, method: UnaryMethod, request: Message, call: Call) -> bytes:
        """The encoded response to one call. Raises domain errors, and withdraws the queries when it is cancelled."""
        work = self.begin(method, request, call)
        try:
            answers = await self._answers(work.queries, call)
        finally:
            self.admission.leave()
        call.answered = answers[0]
        return work.encode(answers)

    async def _answers(self, queries: Sequence[Query], call: Call) -> list[Answered]:
        futures = self.batcher.submit(queries, call.deadline_s)
        if len(futures) == 1:
            return [await futures[0]]
        try:
            return await asyncio.gather(*futures)
        except BaseException:
            for future in futures:
                future.cancel()
            raise

    def _recommend(self, request: pb.RecommendRequest, call: Call) -> Work:
        """One shopper, one list."""
        query = self.decoder().recommend(request, time.time())
        timings = request.read_options.timings
        return Work((query,), lambda answers: encode_recommend(call.request_id, query, answers[0], timings=timings))

    def _batch_recommend(self, request: pb.BatchRecommendRequest, call: Call) -> Work:  # noqa: ARG002 - as the others
        """Several shoppers; all or nothing."""
        queries = self.decoder().batch_recommend(request, time.time())

        def encode(answers: Sequence[Answered]) -> bytes:
            return encode_batch_recommend(
                encode_recommend(
                    self.request_ids.of(entry.request_id), query, answered, timings=entry.read_options.timings
                )
                for entry, query, answered in zip(request.requests, queries, answers, strict=True)
            )

        return Work(queries, encode)

    def _score(self, request: pb.ScoreRequest, call: Call) -> Work:
        """Given items, for one shopper."""
        query = self.decoder().score(request, time.time())
        return Work((query,), lambda answers: encode_score(call.request_id, answers[0], len(query.item_ids)))

    def _similar_items(self, request: pb.SimilarItemsRequest, call: Call) -> Work:
        """Neighbours of one item."""

        def encode(answers: Sequence[Answered]) -> bytes:
            [answered] = answers
            if isinstance(answered.answer, UnknownItem):
                raise ItemNotFound(answered.answer.item_id, answered.answer.generation_id)
            return encode_similar_items(call.request_id, answered)

        return Work((self.decoder().similar_items(request),), encode)
