"""What is written by hand is what protobuf reads, and what protobuf itself would have written."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twinrank.v1 import recommendation_pb2 as pb

from server.wire import embedded, text_field

RESPONSES = pb.BatchRecommendResponse.RESPONSES_FIELD_NUMBER
REQUEST_ID = pb.RecommendResponse.REQUEST_ID_FIELD_NUMBER
GENERATION_ID = pb.RecommendResponse.GENERATION_ID_FIELD_NUMBER


@given(text=st.text(max_size=300))
def test_a_text_is_protobufs_own(text: str) -> None:
    assert text_field(REQUEST_ID, text.encode()) == pb.RecommendResponse(request_id=text).SerializeToString()


@given(texts=st.lists(st.text(max_size=300), max_size=5))
def test_embedded_responses_and_joined_fields_are_read_as_one_message(texts: list[str]) -> None:
    responses = [pb.RecommendResponse(request_id=text, item_ids=[text], scores=[0.5]) for text in texts]
    written = b"".join(embedded(RESPONSES, response.SerializeToString()) for response in responses)
    assert written == pb.BatchRecommendResponse(responses=responses).SerializeToString()
    joined = pb.RecommendResponse(request_id="r").SerializeToString() + text_field(GENERATION_ID, b"g")
    assert pb.RecommendResponse.FromString(joined) == pb.RecommendResponse(request_id="r", generation_id="g")
