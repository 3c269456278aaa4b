"""The values that go in and come out: what they check, and what they survive."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import FrozenInstanceError
from datetime import datetime
from typing import Any

import pytest
from grpc import StatusCode
from twinrank.v1 import events_pb2
from twinrank.v1 import recommendation_pb2 as pb
from twinrank_client import (
    CandidateSource,
    DegradedReason,
    Failure,
    InvalidRequest,
    Overloaded,
    RecentEvent,
    Recommendations,
    RecommendRequest,
    Retry,
    ScoreRequest,
    SimilarItemsRequest,
    StreamAnswer,
    Timeout,
    TwinrankError,
    Unavailable,
)
from twinrank_client.conversion import read_recommendations
from twinrank_client.status import DETAILS_KEY, read_failure, write_details

NAIVE = datetime(2017, 12, 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: RecentEvent("milk", "view", NAIVE),
        lambda: RecommendRequest(request_time=NAIVE),
        lambda: ScoreRequest(item_ids=["milk"], request_time=NAIVE),
    ],
)
def test_a_naive_datetime_is_refused_with_advice(make: Any) -> None:
    with pytest.raises(ValueError, match=r"time has no time zone: .*2017, 12, 1.*timezone\.utc"):
        make()


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: RecommendRequest(user_id=7), "user_id"),  # type: ignore[arg-type]
        (lambda: RecommendRequest(visitor_id=None), "visitor_id"),  # type: ignore[arg-type]
        (lambda: RecommendRequest(exclude_item_ids="milk"), "exclude_item_ids"),
        (lambda: RecommendRequest(context_item_ids=[1]), "context_item_ids"),  # type: ignore[list-item]
        (lambda: RecommendRequest(context={"place": 3}), "place"),  # type: ignore[dict-item]
        (lambda: ScoreRequest(item_ids="milk"), "item_ids"),
        (lambda: SimilarItemsRequest(8), "item_id"),  # type: ignore[arg-type]
        (lambda: RecentEvent(9), "item_id"),  # type: ignore[arg-type]
    ],
)
def test_an_id_of_the_wrong_type_is_named(make: Any, field: str) -> None:
    with pytest.raises(TypeError, match=field):
        make()


def test_requests_are_frozen_and_keep_a_copy_of_their_lists() -> None:
    excluded = ["milk"]
    request = RecommendRequest(exclude_item_ids=excluded)
    excluded.append("bread")
    assert request.exclude_item_ids == ("milk",)
    assert request == RecommendRequest(exclude_item_ids=("milk",))
    with pytest.raises(FrozenInstanceError):
        request.user_id = "1"  # type: ignore[misc]


def test_a_source_or_reason_of_a_newer_server_is_unknown() -> None:
    message = pb.RecommendResponse(item_ids=["milk"], scores=[0.5])
    message.MergeFromString(b"\x22\x01\x63")  # sources: [99]
    message.MergeFromString(b"\x40\x63")  # degraded_reason: 99
    answer = read_recommendations(message)
    assert answer.sources == (CandidateSource.UNKNOWN,)
    assert answer.degraded_reason is DegradedReason.UNKNOWN


def test_python_enums_have_the_contracts_numbers() -> None:
    sources = {name.removeprefix("CANDIDATE_SOURCE_"): number for name, number in pb.CandidateSource.items()}
    reasons = {name.removeprefix("DEGRADED_REASON_"): number for name, number in pb.DegradedReason.items()}
    assert {source.name: source.value for source in CandidateSource if source} == {
        name: number for name, number in sources.items() if number
    }
    assert {reason.name: reason.value for reason in DegradedReason if reason} == {
        name: number for name, number in reasons.items() if number
    }


def test_a_stream_answer_gives_its_list_or_raises_its_error() -> None:
    recommendations = Recommendations((), (), ())
    assert StreamAnswer("a", recommendations).result() is recommendations
    with pytest.raises(Unavailable):
        StreamAnswer("b", error=Unavailable(Failure(StatusCode.UNAVAILABLE))).result()


def test_errors_survive_pickling_and_copying() -> None:
    error = InvalidRequest(Failure(StatusCode.INVALID_ARGUMENT, "wrong", "BAD", {"page_size": "too large"}))
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is InvalidRequest
        assert twin.fields == {"page_size": "too large"}
        assert str(twin) == "wrong (INVALID_ARGUMENT, BAD); page_size: too large"


def test_every_error_is_a_twinrank_error() -> None:
    assert isinstance(Overloaded(Failure(StatusCode.RESOURCE_EXHAUSTED)), TwinrankError)


def test_a_failure_comes_back_from_its_metadata_as_it_went_in() -> None:
    failure = Failure(StatusCode.RESOURCE_EXHAUSTED, "queue full", "QUEUE_FULL", {"a": "b"}, 0.25, "r1")
    metadata = write_details(failure)
    assert dict(metadata)["grpc-retry-pushback-ms"] == "250"
    assert read_failure(failure.code, failure.message, metadata, "") == failure


@pytest.mark.parametrize("metadata", [(), (("other", "x"),), ((DETAILS_KEY, b"\xff\xff"),), ((DETAILS_KEY, "text"),)])
def test_missing_or_broken_details_leave_the_plain_status(metadata: Any) -> None:
    assert read_failure(StatusCode.INTERNAL, "no", metadata, "r") == Failure(StatusCode.INTERNAL, "no", request_id="r")


def test_the_service_config_says_what_the_retry_says() -> None:
    events = events_pb2.DESCRIPTOR.services_by_name["EventService"]
    config = json.loads(Retry(attempts_max=4, backoff_ms=5, backoff_ms_max=80, wait_for_ready=True).service_config())
    assert config["methodConfig"] == [
        {
            "name": [
                {"service": pb.DESCRIPTOR.services_by_name["RecommendationService"].full_name},
                {"service": events.full_name, "method": events.methods_by_name["WriteEvents"].name},
            ],
            "waitForReady": True,
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.005s",
                "maxBackoff": "0.080s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
            },
        }
    ]
    assert "retryPolicy" not in Retry(attempts_max=1).service_config()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Retry(attempts_max=0),
        lambda: Retry(attempts_max=6),
        lambda: Retry(backoff_ms=0),
        lambda: Retry(backoff_ms=300, backoff_ms_max=200),
        lambda: Timeout(unary_s=0),
        lambda: Timeout(batch_s=-1),
        lambda: Timeout(stream_s=float("nan")),
    ],
)
def test_settings_out_of_range_are_refused(make: Any) -> None:
    with pytest.raises(ValueError, match="must be"):
        make()
