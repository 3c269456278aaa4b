"""What the two clients have in common: the calls they offer, and all of a call except how one waits for it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from twinrank.v1 import events_pb2_grpc
from twinrank.v1 import recommendation_pb2_grpc as pb_grpc

from twinrank_client import conversion, event_conversion
from twinrank_client.answer import Recommendations, Scores, SimilarItems
from twinrank_client.event import Event, WriteReceipt
from twinrank_client.request import RecommendRequest, ScoreRequest, SimilarItemsRequest
from twinrank_client.settings import (
    CHANNEL_COUNT_MAX,
    LIMITS_DEFAULT,
    RETRY_DEFAULT,
    TIMEOUT_DEFAULT,
    Limits,
    Retry,
    Timeout,
    Tls,
    channel_options,
)
from twinrank_client.status import Metadata

RequestT = TypeVar("RequestT")
AnswerT = TypeVar("AnswerT")

TimeoutKind = Literal["unary_s", "batch_s", "stream_s"]

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True, slots=True)
class Method(Generic[RequestT, AnswerT]):
    """One unary RPC: its name in the contract, which timeout it goes by, and its way into and out of protobuf."""

    name: str
    timeout: TimeoutKind
    write: Callable[[RequestT], Any]
    read: Callable[[Any, RequestT], AnswerT]
    request_id: Callable[[RequestT], str]


RECOMMEND: Method[RecommendRequest, Recommendations] = Method(
    "Recommend",
    "unary_s",
    conversion.write_recommend,
    lambda message, _: conversion.read_recommendations(message),
    lambda request: request.request_id,
)
BATCH_RECOMMEND: Method[Sequence[RecommendRequest], list[Recommendations]] = Method(
    "BatchRecommend",
    "batch_s",
    conversion.write_batch,
    lambda message, _: conversion.read_batch(message),
    lambda _: "",
)
SCORE: Method[ScoreRequest, Scores] = Method(
    "Score", "unary_s", conversion.write_score, conversion.read_scores, lambda request: request.request_id
)
SIMILAR_ITEMS: Method[SimilarItemsRequest, SimilarItems] = Method(
    "SimilarItems",
    "unary_s",
    conversion.write_similar,
    lambda message, _: conversion.read_similar_items(message),
    lambda request: request.request_id,
)


WRITE_EVENTS: Method[Sequence[Event], WriteReceipt] = Method(
    "WriteEvents",
    "unary_s",
    event_conversion.write_events,
    lambda message, _: event_conversion.read_receipt(message),
    lambda _: "",
)


class Stubs:
    """The methods of a channel, whatever their service: their names differ."""

    def __init__(self, channel: Any) -> None:
        # The generator writes the stubs without types; they serve both kinds of channel.
        self._services: tuple[Any, ...] = (
            pb_grpc.RecommendationServiceStub(channel),  # type: ignore[no-untyped-call]
            events_pb2_grpc.EventServiceStub(channel),  # type: ignore[no-untyped-call]
        )
        for service in self._services:
            vars(self).update(vars(service))


class BaseClient:
    """Settings of a client.

    target: `host:port` (or any gRPC name, such as `dns:///…` or `unix:…`) of a Twinrank server.
    timeout_s: seconds for every unary and batch call, or a Timeout that names each kind; a call may bring its own.
    channel_count: connections, used in turn. One connection lands on one worker process of the server, so a service
        that asks much opens a few for each worker.
    tls: None speaks plain text, as inside a cluster.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout_s: float | Timeout = TIMEOUT_DEFAULT,
        retry: Retry = RETRY_DEFAULT,
        limits: Limits = LIMITS_DEFAULT,
        tls: Tls | None = None,
        channel_count: int = 1,
    ) -> None:
        if not 1 <= channel_count <= CHANNEL_COUNT_MAX:
            raise ValueError(f"channel_count must be 1 to {CHANNEL_COUNT_MAX}, not {channel_count!r}")
        self._target = target
        self._timeout = timeout_s if isinstance(timeout_s, Timeout) else Timeout(unary_s=timeout_s, batch_s=timeout_s)
        self._tls = tls
        self._options = channel_options(retry, limits, tls)
        self._channel_count = channel_count
        self._turn = itertools.count()
        self._channels: list[Any] = []
        self._stubs: list[Any] = []
        self._closed = False
        self._start()

    def _start(self) -> None:
        """What a kind of client does when it is made."""

    def _connect(self, insecure: Callable[..., Any], secure: Callable[..., Any]) -> None:
        for _ in range(self._channel_count):
            if self._tls is None:
                channel = insecure(self._target, options=self._options)
            else:
                channel = secure(self._target, self._tls.credentials(), options=self._options)
            self._channels.append(channel)
            self._stubs.append(Stubs(channel))

    def _next_stub(self) -> Any:
        if self._closed:
            raise RuntimeError("this client is closed")
        return self._stubs[next(self._turn) % len(self._stubs)]

    def _timeout_s(self, kind: TimeoutKind, timeout_s: float | None) -> float | None:
        seconds: float | None = getattr(self._timeout, kind) if timeout_s is None else timeout_s
        return seconds


def call_metadata(traceparent: str | None) -> Metadata:
    """The headers of a call. A malformed traceparent is left out, as W3C asks: tracing must not fail a page."""
    if traceparent is None or not _TRACEPARENT.fullmatch(traceparent):
        return ()
    return (("traceparent", traceparent),)
