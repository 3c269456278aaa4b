"""The Python client of a Twinrank server: `Client`, `AsyncClient`, and the dataclasses that go in and come out.

What is named here is the whole public API; `twinrank_client.testing` adds a fake server for the tests of services.
"""

from twinrank_client.answer import (
    CandidateSource,
    DegradedReason,
    Explanation,
    ItemScore,
    Recommendations,
    ScoredItem,
    Scores,
    SimilarItem,
    SimilarItems,
    StageTimings,
    StreamAnswer,
)
from twinrank_client.async_client import AsyncClient
from twinrank_client.async_event_stream import AsyncEventStream
from twinrank_client.client import Client
from twinrank_client.errors import (
    AccessDenied,
    Cancelled,
    DeadlineExceeded,
    Failure,
    InternalError,
    InvalidRequest,
    NotFound,
    Overloaded,
    TwinrankError,
    Unavailable,
)
from twinrank_client.event import Event, WriteReceipt
from twinrank_client.event_stream import EventStream
from twinrank_client.filter import AllOf, AnyOf, Available, Equals, Filter, IsIn, Not, Range
from twinrank_client.request import RecentEvent, RecommendRequest, RepeatPolicy, ScoreRequest, SimilarItemsRequest
from twinrank_client.settings import Limits, Retry, Timeout, Tls

__all__ = [
    "AccessDenied",
    "AllOf",
    "AnyOf",
    "AsyncClient",
    "AsyncEventStream",
    "Available",
    "Cancelled",
    "CandidateSource",
    "Client",
    "DeadlineExceeded",
    "DegradedReason",
    "Equals",
    "Event",
    "EventStream",
    "Explanation",
    "Failure",
    "Filter",
    "InternalError",
    "InvalidRequest",
    "IsIn",
    "ItemScore",
    "Limits",
    "Not",
    "NotFound",
    "Overloaded",
    "Range",
    "RecentEvent",
    "RecommendRequest",
    "Recommendations",
    "RepeatPolicy",
    "Retry",
    "ScoreRequest",
    "ScoredItem",
    "Scores",
    "SimilarItem",
    "SimilarItems",
    "SimilarItemsRequest",
    "StageTimings",
    "StreamAnswer",
    "Timeout",
    "Tls",
    "TwinrankError",
    "Unavailable",
    "WriteReceipt",
]
