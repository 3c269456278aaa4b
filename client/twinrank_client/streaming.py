"""The sending side of a stream: requests are converted as gRPC asks for them, and what goes wrong there is kept.

gRPC pulls requests in a thread or a task of its own, and would log and drop an exception raised there. So the feed ends
the requests instead, the answers to those already sent still arrive, and the client then raises the exception.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

from twinrank.v1 import recommendation_pb2 as pb

from twinrank_client import conversion
from twinrank_client.request import RecommendRequest


class RequestFeed:
    """Requests on their way into a stream; `failure` is what the caller's iterable or the conversion raised."""

    def __init__(self) -> None:
        self.failure: Exception | None = None

    def of(self, requests: Iterable[RecommendRequest]) -> Iterator[pb.StreamRecommendRequest]:
        """The messages of an ordinary iterable."""
        try:
            for request in requests:
                yield _write(request)
        except Exception as error:
            self.failure = error

    async def of_async(
        self, requests: AsyncIterable[RecommendRequest] | Iterable[RecommendRequest]
    ) -> AsyncIterator[pb.StreamRecommendRequest]:
        """The messages of an asynchronous iterable, or of an ordinary one that does not block."""
        try:
            if isinstance(requests, AsyncIterable):
                async for request in requests:
                    yield _write(request)
            else:
                for request in requests:
                    yield _write(request)
        except Exception as error:
            self.failure = error


def _write(request: RecommendRequest) -> pb.StreamRecommendRequest:
    message = conversion.write_recommend(request)
    # Answers come in any order: a request without an id could not be told apart.
    message.request_id = message.request_id or uuid.uuid4().hex
    return pb.StreamRecommendRequest(request=message)
