"""What is written by hand is what protobuf reads, and what protobuf itself would have written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twinrank.v1 import recommendation_pb2 as pb

from server.wire import embedded, packed_floats, packed_small

SCORES = pb.RecommendResponse.SCORES_FIELD_NUMBER
SOURCES = pb.RecommendResponse.SOURCES_FIELD_NUMBER
RESPONSES = pb.BatchRecommendResponse.RESPONSES_FIELD_NUMBER


@given(scores=st.lists(st.floats(width=32, allow_nan=False), max_size=200))
def test_a_column_of_floats_is_protobufs_own(scores: list[float]) -> None:
    assert packed_floats(SCORES, scores) == pb.RecommendResponse(scores=scores).SerializeToString()


@given(sources=st.lists(st.sampled_from(pb.CandidateSource.values()), max_size=200))
def test_a_column_of_sources_is_protobufs_own(sources: list[int]) -> None:
    written = packed_small(SOURCES, bytes(sources))
    assert pb.RecommendResponse.FromString(written).sources == sources
    assert written == pb.RecommendResponse(sources=sources).SerializeToString()  # type: ignore[arg-type]


@given(texts=st.lists(st.text(max_size=300), max_size=5))
def test_embedded_responses_and_joined_fields_are_read_as_one_message(texts: list[str]) -> None:
    responses = [pb.RecommendResponse(request_id=text, item_ids=[text], scores=[0.5]) for text in texts]
    written = b"".join(embedded(RESPONSES, response.SerializeToString()) for response in responses)
    assert written == pb.BatchRecommendResponse(responses=responses).SerializeToString()
    joined = pb.RecommendResponse(request_id="r").SerializeToString() + packed_floats(SCORES, [0.25, 0.75])
    assert pb.RecommendResponse.FromString(joined) == pb.RecommendResponse(request_id="r", scores=[0.25, 0.75])


def test_a_number_that_no_float32_holds_is_refused() -> None:
    with pytest.raises(OverflowError):
        packed_floats(SCORES, [1e300])
