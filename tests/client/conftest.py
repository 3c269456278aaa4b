"""Fixtures of the client's tests: the fake server, and one face over both clients so that one suite judges both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import pytest
from twinrank_client import (
    AsyncClient,
    Client,
    Recommendations,
    RecommendRequest,
    ScoreRequest,
    Scores,
    SimilarItems,
    SimilarItemsRequest,
    StreamAnswer,
)
from twinrank_client.testing.pytest_plugin import twinrank_server

__all__ = ["twinrank_server"]


class AnyClient(Protocol):
    """The calls of a client, awaited."""

    async def recommend(
        self, request: RecommendRequest, *, timeout_s: float | None = None, traceparent: str | None = None
    ) -> Recommendations: ...

    async def batch_recommend(
        self, requests: Sequence[RecommendRequest], *, timeout_s: float | None = None, traceparent: str | None = None
    ) -> list[Recommendations]: ...

    async def stream_recommend(
        self, requests: Iterable[RecommendRequest], *, timeout_s: float | None = None, traceparent: str | None = None
    ) -> list[StreamAnswer]: ...

    async def score(
        self, request: ScoreRequest, *, timeout_s: float | None = None, traceparent: str | None = None
    ) -> Scores: ...

    async def similar_items(
        self, request: SimilarItemsRequest, *, timeout_s: float | None = None, traceparent: str | None = None
    ) -> SimilarItems: ...


class BlockingFace:
    """The blocking client, awaited: it blocks the test's loop, which the fake server does not need."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def recommend(self, request: RecommendRequest, **options: Any) -> Recommendations:
        return self._client.recommend(request, **options)

    async def batch_recommend(self, requests: Sequence[RecommendRequest], **options: Any) -> list[Recommendations]:
        return self._client.batch_recommend(requests, **options)

    async def stream_recommend(self, requests: Iterable[RecommendRequest], **options: Any) -> list[StreamAnswer]:
        return list(self._client.stream_recommend(requests, **options))

    async def score(self, request: ScoreRequest, **options: Any) -> Scores:
        return self._client.score(request, **options)

    async def similar_items(self, request: SimilarItemsRequest, **options: Any) -> SimilarItems:
        return self._client.similar_items(request, **options)


class AsyncFace:
    """The asyncio client, its stream gathered into a list."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self.recommend = client.recommend
        self.batch_recommend = client.batch_recommend
        self.score = client.score
        self.similar_items = client.similar_items

    async def stream_recommend(self, requests: Iterable[RecommendRequest], **options: Any) -> list[StreamAnswer]:
        return [answer async for answer in self._client.stream_recommend(requests, **options)]


Connect = Callable[..., AbstractAsyncContextManager[AnyClient]]


@pytest.fixture(params=["blocking", "asyncio"])
def connect(request: pytest.FixtureRequest) -> Connect:
    """Opens either client with the arguments of both: `async with connect(target, …) as client`."""

    @asynccontextmanager
    async def blocking(target: str, **settings: Any) -> AsyncIterator[AnyClient]:
        with Client(target, **settings) as client:
            yield BlockingFace(client)

    @asynccontextmanager
    async def asynchronous(target: str, **settings: Any) -> AsyncIterator[AnyClient]:
        async with AsyncClient(target, **settings) as client:
            yield AsyncFace(client)

    return blocking if request.param == "blocking" else asynchronous
